package devices

import (
	"cmp"
	"slices"
)

// Changed names a device and the version of its last change of presence.
type Changed struct {
	Device  string
	Version uint64
}

// ChangedSince returns the devices whose last change is newer than a version, the oldest first, and the version of the
// newest change of any device. Who subscribed before misses none between both.
func (s *Sessions) ChangedSince(version uint64) (found []Changed, newest uint64) {
	s.mu.RLock()
	for device, p := range s.last {
		if _, online := s.byDevice[device]; !online && p.Version > version {
			found = append(found, Changed{device, p.Version})
		}
	}
	for device, n := range s.byDevice {
		if n.version > version {
			found = append(found, Changed{device, n.version})
		}
	}
	newest = s.version
	s.mu.RUnlock()
	slices.SortFunc(found, func(a, b Changed) int { return cmp.Compare(a.Version, b.Version) })
	return found, newest
}

// Written returns the version up to which every change of presence is in the bucket.
func (s *Sessions) Written() uint64 { return s.written.Load() }
