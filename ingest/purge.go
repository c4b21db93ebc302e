package ingest

import (
	"context"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// purgeEvery is how often the writer looks for envelopes that are both written and old, while the journal is not full.
const purgeEvery = time.Minute

// purge drops envelopes that the writer has accounted for, durably, and that are older than Keep or beyond KeepBytes.
// JetStream's own limits cannot: they would drop what is not yet written. When the journal is full, devices wait for
// room: then half of what is kept goes, however young.
func (w *writer) purge(ctx context.Context, full bool) {
	w.purgedAt = time.Now()
	info, err := w.journal.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return
	}
	keep := w.cfg.KeepBytes
	if full {
		keep = int64(info.State.Bytes / 2)
	}
	upTo := info.State.FirstSeq
	if excess := int64(info.State.Bytes) - keep; excess > 0 {
		// Envelopes are of like size over a minute: drop the share that is too much.
		share := float64(excess) / float64(info.State.Bytes)
		upTo += uint64(math.Ceil(share * float64(info.State.Msgs)))
	}
	upTo = min(max(upTo, w.firstYounger(ctx, info.State, time.Now().Add(-w.cfg.Keep))), w.saved+1)
	if upTo <= info.State.FirstSeq {
		return
	}
	if err := w.journal.Purge(ctx, jetstream.WithPurgeSequence(upTo)); err != nil {
		w.log.Warn("old envelopes were not dropped", "err", err)
	}
}

// firstYounger returns the first sequence whose envelope is younger than when, by bisection.
func (w *writer) firstYounger(ctx context.Context, state jetstream.StreamState, when time.Time) uint64 {
	low, high := state.FirstSeq, state.LastSeq+1
	if state.FirstTime.After(when) {
		return low
	}
	for low < high {
		middle := low + (high-low)/2
		msg, err := w.journal.GetMsg(ctx, middle)
		if err != nil {
			return state.FirstSeq
		}
		if msg.Time.After(when) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}
