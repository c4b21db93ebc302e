package ingest

import (
	"context"
	"slices"
	"strings"
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
// commits, what became of it from the writer, and what the writer has not come to is queued.
func (in *Ingest) Audit(devices ...string) Audit {
	var audit Audit
	in.writer.mu.Lock()
	in.arrivals.mu.Lock()
	if len(devices) == 0 {
		audit.Devices = make([]DeviceCounts, 0, len(in.arrivals.byDevice))
		for _, a := range in.arrivals.byDevice {
			audit.Devices = append(audit.Devices, in.counts(a))
		}
	}
	for _, device := range devices {
		if a := in.arrivals.byDevice[device]; a != nil {
			audit.Devices = append(audit.Devices, in.counts(a))
		}
	}
	in.arrivals.mu.Unlock()
	in.writer.mu.Unlock()
	slices.SortFunc(audit.Devices, func(a, b DeviceCounts) int { return strings.Compare(a.Device, b.Device) })
	for i := range audit.Devices {
		audit.Total.add(audit.Devices[i].Counts)
	}
	return audit
}

// counts needs both locks.
func (in *Ingest) counts(a *arrival) DeviceCounts {
	c := DeviceCounts{Device: a.device}
	if known := in.writer.accounts[a.device]; known != nil {
		c.Counts = known.clone()
	}
	// The writer may read an envelope before its commit is noted: then it is the one that knows.
	c.Queued = max(a.received, c.Received) - c.Received
	c.Received += c.Queued
	return c
}

// Quarantine returns up to limit quarantined readings that f takes, before that place in the quarantine, the newest
// first, and the place to go on with; 0 begins and ends. A page may be short, or empty, though there is a next.
func (in *Ingest) Quarantine(ctx context.Context, f Filter, before uint64, limit int) ([]Quarantined, uint64, error) {
	return in.writer.quarantine.list(ctx, f, before, limit)
}

// Quarantined returns one quarantined reading, or ErrNotQuarantined.
func (in *Ingest) Quarantined(ctx context.Context, id uint64) (Quarantined, error) {
	return in.writer.quarantine.get(ctx, id)
}
