package ingest

import (
	"hash/maphash"
	"slices"

	"telemetryhub/wire"
)

// A device's names are bounded (FieldLimits.Device): a device that counts in its field names would stop the store for
// everybody.

// names is which fields a device has used since the hub's start, as sorted hashes: 8 bytes each.
type names struct {
	seed  maphash.Seed
	shape uint64   // of the last reading: most have the fields of the one before
	known []uint64 // sorted
}

// nameLimit is how many names a device may have. It is asked for only where there is a new one.
type nameLimit struct {
	of     func(device string) int
	device string
}

// admit reports whether with the fields there are no more than most says, and remembers them. A reading that is not admitted
// leaves nothing behind.
func (n *names) admit(measurement []byte, fields []wire.Field, most nameLimit) bool {
	if n.known == nil {
		n.seed = maphash.MakeSeed()
	}
	var shape maphash.Hash
	shape.SetSeed(n.seed)
	of := n.measurement(measurement)
	for i := range fields {
		_ = shape.WriteByte(0) // in no name; a maphash never fails
		_, _ = shape.Write(fields[i].Name)
	}
	if sum := shape.Sum64() ^ of; sum != n.shape || n.known == nil {
		if !n.learn(of, fields, most) {
			return false
		}
		n.shape = sum
	}
	return true
}

// measurement is its hash; the default one is known by its name and without.
func (n *names) measurement(name []byte) uint64 {
	if len(name) == 0 {
		return maphash.String(n.seed, wire.DefaultMeasurement)
	}
	return maphash.Bytes(n.seed, name)
}

// learn adds the fields that are not known, all or none.
func (n *names) learn(base uint64, fields []wire.Field, most nameLimit) bool {
	before := n.known
	known := slices.Clone(before)
	for i := range fields {
		// Two names of one hash count as one: the bound is not exact to the last, and need not be.
		name := base ^ maphash.Bytes(n.seed, fields[i].Name)*0x9e3779b97f4a7c15
		if at, found := slices.BinarySearch(known, name); !found {
			known = slices.Insert(known, at, name)
		}
	}
	if len(known) > len(before) && len(known) > most.of(most.device) {
		return false
	}
	n.known = known
	return true
}
