package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"telemetryhub/api/client"
	"telemetryhub/cmd/device-sim/judge"
)

const (
	verifying       = 4                     // devices read back at a time
	verifyPage      = 5000                  // points asked for at once
	settlePatience  = 5 * time.Minute       // while the hub's queue does not shrink
	passPatience    = 20 * time.Second      // while nothing more comes out of a broker before the hub
	settlePause     = 50 * time.Millisecond // grows up to settlePauseMost
	settlePauseMost = 2 * time.Second
	hubPatience     = 60 * time.Second // while the hub does not answer
	spanMargin      = time.Minute      // around the times that were sent, for points that moved
)

// audit is the hub's account of this fleet's devices.
type audit struct {
	stored, duplicate, quarantined, queued, refused uint64
}

func (f *fleet) audit(ctx context.Context) (audit, error) {
	only := ""
	if len(f.devices) == 1 {
		only = f.devices[0].id
	}
	answer, err := patiently(ctx, func() (client.Audit, error) { return f.api.Audit(ctx, only) })
	if err != nil {
		return audit{}, fmt.Errorf("read the audit: %w", err)
	}
	ours := make(map[string]bool, len(f.devices))
	for _, d := range f.devices {
		ours[d.id] = true
	}
	var sum audit
	for _, counts := range answer.Devices {
		if ours[counts.Device] {
			sum.stored += counts.Stored
			sum.duplicate += counts.Duplicate
			sum.quarantined += counts.Quarantined
			sum.queued += counts.Queued
			sum.refused += counts.RefusedTotal()
		}
	}
	return sum, nil
}

// patiently repeats a request while the hub does not answer, as it may be about to restart.
func patiently[T any](ctx context.Context, request func() (T, error)) (T, error) {
	for began := time.Now(); ; {
		result, err := request()
		if err == nil || !maybeLater(err) || time.Since(began) > hubPatience || !sleep(ctx, registerPause) {
			return result, err
		}
	}
}

// settle waits until the hub has nothing of these devices queued.
func (f *fleet) settle(ctx context.Context) (audit, error) {
	least, since := ^uint64(0), time.Now()
	for pause := settlePause; ; pause = min(2*pause, settlePauseMost) {
		now, err := f.audit(ctx)
		if err != nil || now.queued == 0 {
			return now, err
		}
		if now.queued < least {
			least, since = now.queued, time.Now()
		}
		if time.Since(since) > settlePatience {
			return now, fmt.Errorf("%d readings are still queued in the hub, and no fewer for %v: is its store away?", now.queued, settlePatience)
		}
		if !sleep(ctx, pause) {
			return now, ctx.Err()
		}
	}
}

// pass waits until the hub has all that a broker before it has acknowledged.
func (f *fleet) pass(ctx context.Context, before audit, acked uint64) error {
	most, since := uint64(0), time.Now()
	for {
		now, err := f.audit(ctx)
		if err != nil {
			return err
		}
		arrived := sinceThen(now.stored, before.stored) + sinceThen(now.quarantined, before.quarantined) + sinceThen(now.refused, before.refused) + now.queued
		if arrived > most {
			most, since = arrived, time.Now()
		}
		if arrived >= acked || time.Since(since) > passPatience || !sleep(ctx, settlePause) {
			return nil // the judge says what is missing
		}
	}
}

// verify reads everything back and fills the verdict into the result. Began is before the first connection, start the
// time of the first reading.
func (f *fleet) verify(ctx context.Context, result *summary, before audit, began, start time.Time) error {
	if f.options.Bridged {
		if err := f.pass(ctx, before, result.Acked); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
	}
	after, err := f.settle(ctx)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	result.Quarantined = sinceThen(after.quarantined, before.quarantined)
	result.Refused = sinceThen(after.refused, before.refused)
	verdict, err := f.judge(ctx, began, time.Now())
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	result.Stored, result.Lost, result.Duplicated = &verdict.Stored, &verdict.Lost, &verdict.Duplicated
	for _, fault := range verdict.Faults {
		f.log.Error("verify", "fault", fault)
	}
	ledger, err := f.reconcile(ctx, began)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	result.Commands.Verified = &ledger
	for _, fault := range ledger.faults {
		f.log.Error("verify", "fault", fault)
	}
	if !verdict.Good() {
		return fmt.Errorf("%w: %d missing, %d too many", errJudged, verdict.Lost, verdict.Duplicated)
	}
	if ledger.Wrong > 0 {
		return fmt.Errorf("%w: of %d commands the ledger and the devices disagree", errJudged, ledger.Wrong)
	}
	return nil
}

// sinceThen is the growth of a counter; one that was reset counts from 0.
func sinceThen(now, then uint64) uint64 {
	if now < then {
		return now
	}
	return now - then
}

// judge checks all devices, a few at a time.
func (f *fleet) judge(ctx context.Context, began, ended time.Time) (judge.Verdict, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var total judge.Verdict
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan *device)
	for range verifying {
		workers.Go(func() {
			for d := range next {
				subject := f.subject(d, began, ended)
				verdict, err := patiently(ctx, func() (judge.Verdict, error) { return judge.Check(ctx, hubStore{f.api}, subject) })
				if err != nil {
					cancel(err)
					continue
				}
				mu.Lock()
				total.Add(verdict)
				mu.Unlock()
			}
		})
	}
	for _, d := range f.devices {
		next <- d
	}
	close(next)
	workers.Wait()
	return total, context.Cause(ctx)
}

// subject says what a device sent, and where to look for it.
func (f *fleet) subject(d *device, began, ended time.Time) judge.Subject {
	s := judge.Subject{
		Device: d.id, Source: d.out.source, Ledger: d.out.ledger, Sent: d.out.sent, Acked: d.out.acked,
		Clockless: f.options.Clockless, Run: f.run,
	}
	if len(f.replays) > 0 {
		s.Run, s.Alone = 0, f.options.replayMode() == replayAtOnce
	}
	margin := spanMargin.Milliseconds()
	oldest, newest := d.out.ledger.Span()
	if s.Clockless || d.out.measured == 0 {
		oldest, newest = began.UnixMilli(), ended.UnixMilli()
	}
	s.Spans = []judge.Span{{From: oldest - margin, To: newest + margin}}
	if s.Run != 0 && slices.Contains(f.options.Faults, faultClock) {
		ahead := clockAhead.Milliseconds()
		s.Spans = append(s.Spans,
			judge.Span{From: clockBehind, To: clockBehind + 1},
			judge.Span{From: began.UnixMilli() + ahead, To: ended.UnixMilli() + ahead})
	}
	return s
}

// hubStore reads points back through the hub's REST API.
type hubStore struct{ api *client.Client }

// Points reads a device's points, page by page.
func (s hubStore) Points(ctx context.Context, device string, from, to int64) iter.Seq2[judge.Point, error] {
	query := client.TelemetryQuery{From: strconv.FormatInt(from, 10), To: strconv.FormatInt(to, 10), Page: verifyPage}
	return func(yield func(judge.Point, error) bool) {
		for reading, err := range s.api.Telemetry(ctx, device, query) {
			if err != nil {
				yield(judge.Point{}, err)
				return
			}
			if !yield(judge.Point{TS: reading.TS, Values: reading.Values}, nil) {
				return
			}
		}
	}
}
