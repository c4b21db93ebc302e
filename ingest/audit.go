package ingest

import (
	"context"
	"maps"
	"slices"
)

// Audit is the account of readings: of all devices together and of each.
type Audit struct {
	Total   Counts
	Devices []DeviceCounts // sorted by device
}

// DeviceCounts is one device's account.
type DeviceCounts struct {
	Device string
	Counts
}

// Audit returns the account of the named devices, of all without a name. What is counted as received comes from the
// commits, what became of it from the writer; Counts.Check holds the two against each other.
func (in *Ingest) Audit(devices ...string) Audit {
	// Arrivals and accounts are read together: between the two locks nothing settles, since deliver takes mu first.
	in.writer.mu.Lock()
	in.arrivals.mu.Lock()
	var audit Audit
	if len(devices) == 0 {
		devices = slices.Sorted(maps.Keys(in.arrivals.byDevice))
	}
	for _, device := range devices {
		if a := in.arrivals.byDevice[device]; a != nil {
			audit.Devices = append(audit.Devices, DeviceCounts{Device: device, Counts: in.counts(a)})
		}
	}
	in.arrivals.mu.Unlock()
	in.writer.mu.Unlock()
	for i := range audit.Devices {
		audit.Total.add(audit.Devices[i].Counts)
	}
	return audit
}

// counts needs both locks.
func (in *Ingest) counts(a *arrival) Counts {
	c := Counts{Received: a.received, Queued: a.queued}
	if known := in.writer.accounts[a.device]; known != nil {
		o := known.Counts.clone()
		o.Received, o.Queued = 0, 0
		c.add(o)
	}
	return c
}

// Quarantine returns up to limit quarantined readings before the one with that id, the newest first, and the id to go
// on with; 0 begins and ends.
func (in *Ingest) Quarantine(ctx context.Context, before uint64, limit int) ([]Quarantined, uint64, error) {
	return in.writer.quarantine.list(ctx, before, limit)
}
