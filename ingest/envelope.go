package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"telemetryhub/wire"
)

// An envelope is what one commit made durable, in the order in which it came:
//
//	"TE" version run number entry… crc
//
// run (8 bytes) and number (uvarint) name the commit, crc (4 bytes) is the CRC-32C of all before it. An entry is its
// length (uvarint), its kind (1 byte) and
//
//	readings: device prior boot measurement first-seq received clock top rise count reading…
//	refusal:  device prior received reason count
//	retry:    device prior id place boot measurement seq received reading
//	drop:     device prior id place received count
//	retype:   "" 0 id received measurement field type stored-as by
//	missed:   device prior received
//
// Missed says nothing but prior: it stands for what was at the end of the journal and is damaged (lost.go).
// Retry and drop settle the quarantined reading id, which came from that place of the journal (sequence, how manyth).
// prior is how many of the device's readings and refused frames the journal had before: where that is more than what
// the writer has met, the difference is in envelopes that cannot be read. clock is by how many ms, and one, the clock
// of readings without a time was ahead of received after these; 0 when it gave none. top is the latest time of the
// device's readings before these, as ms after received (varint), rise by how many ms these are later. Readings of an
// earlier version of the hub (kind 1) have neither, and are stored as it stored them.
// A reading is its flaw and, with one, its raw text; without one its time, as ms after received (varint), the number
// of its fields, and of each the name, the kind and the value: 8 bytes of a float, a text, nothing for true and false.
// Texts are length (uvarint) and bytes; integers are little-endian.
const (
	envelopeMagic   = "TE"
	envelopeVersion = 1
	headerSize      = len(envelopeMagic) + 1 + 8
	checksumSize    = 4

	entryUntopped = 1
	entryRefusal  = 2
	entryRetry    = 3
	entryDrop     = 4
	entryRetype   = 5
	entryReadings = 6
	entryMissed   = 7
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that an envelope is not what was written.
var errDamaged = errors.New("the envelope is damaged")

func appendHeader(dst []byte, run, number uint64) []byte {
	dst = append(dst, envelopeMagic...)
	dst = append(dst, envelopeVersion)
	dst = binary.LittleEndian.AppendUint64(dst, run)
	return binary.AppendUvarint(dst, number)
}

// seal ends an envelope.
func seal(envelope []byte) []byte {
	return binary.LittleEndian.AppendUint32(envelope, crc32.Checksum(envelope, castagnoli))
}

// lengthRoom is the room for an entry's length: entries are below 2^28 bytes.
const lengthRoom = 4

// openEntry leaves room for the length of an entry that begins at the end of dst; closeEntry fills it in.
func openEntry(dst []byte, kind byte) []byte { return append(dst, 0, 0, 0, 0, kind) }

func closeEntry(dst []byte, from int) {
	// A uvarint of four bytes whatever its value: only the last has no continuation bit.
	n := len(dst) - from - lengthRoom
	for i := range lengthRoom {
		dst[from+i] = byte(n>>(7*i)) & 0x7f
		if i < lengthRoom-1 {
			dst[from+i] |= 0x80
		}
	}
}

func appendText[T []byte | string](dst []byte, text T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// origin is where and when readings came from, as an entry has it.
type origin struct {
	device   string
	prior    uint64
	received int64  // Unix ms
	clock    uint64 // ms, and one
	top      int64  // Unix ms: the latest time of the device's readings before these, and
	rise     uint64 // by how many ms these are later
}

// appendReadings appends the entry of t, whose readings have their times.
func appendReadings(dst []byte, o origin, t *wire.Telemetry) []byte {
	from := len(dst)
	dst = openEntry(dst, entryReadings)
	dst = appendText(dst, o.device)
	dst = binary.AppendUvarint(dst, o.prior)
	dst = appendText(dst, t.Boot)
	dst = appendText(dst, t.Measurement)
	dst = binary.AppendUvarint(dst, t.Seq)
	dst = binary.AppendVarint(dst, o.received)
	dst = binary.AppendUvarint(dst, o.clock)
	dst = binary.AppendVarint(dst, o.top-o.received)
	dst = binary.AppendUvarint(dst, o.rise)
	dst = binary.AppendUvarint(dst, uint64(len(t.Readings)))
	for i := range t.Readings {
		dst = appendReading(dst, &t.Readings[i], o.received)
	}
	closeEntry(dst, from)
	return dst
}

func appendReading(dst []byte, r *wire.Reading, received int64) []byte {
	dst = appendText(dst, r.Flaw)
	if r.Flaw != "" {
		return appendText(dst, r.Raw)
	}
	dst = binary.AppendVarint(dst, r.Time-received)
	dst = binary.AppendUvarint(dst, uint64(len(r.Fields)))
	for i := range r.Fields {
		f := &r.Fields[i]
		dst = appendText(dst, f.Name)
		dst = append(dst, byte(f.Kind))
		switch f.Kind {
		case wire.Float:
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f.Number))
		case wire.String:
			dst = appendText(dst, f.Text)
		}
	}
	return dst
}

func appendRefusal(dst []byte, o origin, reason string, count uint64) []byte {
	from := len(dst)
	dst = openEntry(dst, entryRefusal)
	dst = appendText(dst, o.device)
	dst = binary.AppendUvarint(dst, o.prior)
	dst = binary.AppendVarint(dst, o.received)
	dst = appendText(dst, reason)
	dst = binary.AppendUvarint(dst, count)
	closeEntry(dst, from)
	return dst
}

func appendMissed(dst []byte, o origin) []byte {
	from := len(dst)
	dst = openEntry(dst, entryMissed)
	dst = appendText(dst, o.device)
	dst = binary.AppendUvarint(dst, o.prior)
	dst = binary.AppendVarint(dst, o.received)
	closeEntry(dst, from)
	return dst
}

// envelope is a checked one, read entry by entry.
type envelope struct {
	run, number uint64
	entries     source
}

// openEnvelope checks and opens an envelope. The error is errDamaged, or that it is of a later version.
func openEnvelope(data []byte) (envelope, error) {
	if len(data) < headerSize+checksumSize || string(data[:len(envelopeMagic)]) != envelopeMagic {
		return envelope{}, errDamaged
	}
	body, sum := data[:len(data)-checksumSize], binary.LittleEndian.Uint32(data[len(data)-checksumSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return envelope{}, errDamaged
	}
	if v := data[len(envelopeMagic)]; v != envelopeVersion {
		return envelope{}, fmt.Errorf("the envelope has version %d; this hub reads %d", v, envelopeVersion)
	}
	e := envelope{run: binary.LittleEndian.Uint64(body[len(envelopeMagic)+1:]), entries: source{data: body[headerSize:]}}
	e.number = e.entries.uvarint()
	if e.entries.failed {
		return envelope{}, errDamaged
	}
	return e, nil
}

// entry is one entry; its texts are views into the envelope.
type entry struct {
	kind                 byte
	device, boot, reason []byte
	measurement          []byte
	prior, seq           uint64
	received             int64
	clock                int64  // Unix ms: the last time that the hub gave a reading without one; 0: it gave none here
	count                uint64 // of readings or refused frames
	settles              uint64 // the id of the quarantined reading that a retry or drop is of
	place                asideKey
	readings             source
	retype               *retypeEntry

	isTopped   bool  // says top and after
	top, after int64 // Unix ms: the latest time of the device's readings up to the one at hand; and after all of these
	isLatest   bool  // whether the one at hand is later than all before it
}

// next reads the next entry; false at the end or where the rest cannot be read.
func (e *envelope) next(into *entry) bool {
	if len(e.entries.data) == 0 || e.entries.failed {
		return false
	}
	s := source{data: e.entries.text()}
	*into = entry{kind: s.byte(), device: s.text(), prior: s.uvarint()}
	switch into.kind {
	case entryReadings, entryUntopped:
		into.boot, into.measurement = s.text(), s.text()
		into.seq, into.received = s.uvarint(), s.varint()
		if ahead := s.uvarint(); ahead > 0 {
			into.clock = into.received + int64(ahead-1)
		}
		if into.isTopped = into.kind == entryReadings; into.isTopped {
			into.top = into.received + s.varint()
			into.after = into.top + int64(s.uvarint())
		}
		into.kind, into.count = entryReadings, s.uvarint()
		into.readings = s
	case entryRefusal:
		into.received, into.reason, into.count = s.varint(), s.text(), s.uvarint()
	case entryMissed:
		into.received = s.varint()
	case entryRetry, entryDrop:
		into.settlement(&s)
	case entryRetype:
		into.retyping(&s)
	}
	return !s.failed
}

// reading decodes the next reading of the entry into r, whose Fields are reused.
func (e *entry) reading(r *wire.Reading) bool {
	s := &e.readings
	*r = wire.Reading{Fields: r.Fields[:0]}
	if flaw := s.text(); len(flaw) > 0 {
		r.Flaw, r.Raw = string(flaw), s.text()
		return !s.failed
	}
	r.Time, r.Clock = e.received+s.varint(), wire.ClockGiven
	e.isLatest = e.isTopped && r.Time > e.top
	e.top = max(e.top, r.Time)
	for n := s.uvarint(); n > 0 && !s.failed; n-- {
		f := wire.Field{Name: s.text(), Kind: wire.FieldKind(s.byte())}
		switch f.Kind {
		case wire.Float:
			f.Number = math.Float64frombits(s.uint64())
		case wire.String:
			f.Text = s.text()
		}
		r.Fields = append(r.Fields, f)
	}
	return !s.failed
}

// source reads what was appended. After a failure it gives zero values.
type source struct {
	data   []byte
	failed bool
}

func (s *source) take(n int) []byte {
	if s.failed || n < 0 || n > len(s.data) {
		s.failed = true
		return nil
	}
	taken := s.data[:n:n]
	s.data = s.data[n:]
	return taken
}

func (s *source) uvarint() uint64 {
	v, n := binary.Uvarint(s.data)
	if s.failed || n <= 0 {
		s.failed = true
		return 0
	}
	s.data = s.data[n:]
	return v
}

func (s *source) varint() int64 {
	v, n := binary.Varint(s.data)
	if s.failed || n <= 0 {
		s.failed = true
		return 0
	}
	s.data = s.data[n:]
	return v
}

func (s *source) text() []byte {
	n := s.uvarint()
	if n > uint64(len(s.data)) {
		s.failed = true
		return nil
	}
	return s.take(int(n))
}

func (s *source) byte() byte {
	if b := s.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (s *source) uint64() uint64 {
	if b := s.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
