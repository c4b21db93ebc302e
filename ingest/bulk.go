package ingest

import "context"

// Bulk is what a retry or drop of several readings came to. Next is where to go on; 0 is the end.
type Bulk struct {
	Fates map[Fate]uint64
	Next  uint64
}

// RetryAll retries up to most of the quarantined readings that f takes, before a place in the quarantine, the newest
// first; place 0 is the end. What has no outcome when ctx ends is queued and goes on.
func (in *Ingest) RetryAll(ctx context.Context, f Filter, before uint64, most int) (Bulk, error) {
	return in.settleAll(ctx, f, before, most, entryRetry)
}

// DropAll drops as RetryAll retries.
func (in *Ingest) DropAll(ctx context.Context, f Filter, before uint64, most int) (Bulk, error) {
	return in.settleAll(ctx, f, before, most, entryDrop)
}

func (in *Ingest) settleAll(ctx context.Context, f Filter, before uint64, most int, kind byte) (Bulk, error) {
	items, next, err := in.writer.quarantine.list(ctx, f, before, most)
	if err != nil {
		return Bulk{}, err
	}
	bulk := Bulk{Fates: map[Fate]uint64{}, Next: next}
	begun := make([]*settlement, 0, len(items))
	for i := range items {
		on, isNew := in.writer.settling.begin(items[i].ID, in.journal)
		if isNew {
			in.startSettlement(ctx, on, kind)
		}
		begun = append(begun, on)
	}
	for _, on := range begun {
		outcome, err := on.wait(ctx)
		if err != nil {
			return bulk, err
		}
		bulk.Fates[outcome.Fate]++
	}
	return bulk, nil
}
