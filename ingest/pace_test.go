package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/wire"
)

// pacedJournal is a journal whose commits are made by the test.
type pacedJournal struct {
	*journal
	t *testing.T
}

func newPacedJournal(t *testing.T) *pacedJournal {
	j := stillJournal()
	j.pace = pace{halfProcessors: 1, allowed: 1, metrics: newMetrics(prometheus.NewRegistry())}
	j.room, j.liveRoom = 256<<10, 64<<10
	return &pacedJournal{j, t}
}

// commit makes the open envelope durable: seen tells what each device put into it.
func (j *pacedJournal) commit() (seen map[string]int) {
	j.t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	seen = map[string]int{}
	for _, m := range j.open.marks {
		seen[m.of.device] += int(m.count)
	}
	j.durable = j.open.gen
	j.reuse(j.open, j.open.gen+1)
	j.newRound()
	j.changed.Broadcast()
	return seen
}

// bring appends frames of the device, each some 2 KB of 20 readings, until ctx ends or it has brought most of them.
func (j *pacedJournal) bring(ctx context.Context, device string, most int) error {
	frame := framed(j.t, 20)
	for range most {
		if _, err := j.append(ctx, device, frame, received, nobody{}); err != nil {
			return err
		}
	}
	return nil
}

func framed(t testing.TB, readings int) *wire.Telemetry {
	payload := `{"readings":[`
	for i := range readings {
		if i > 0 {
			payload += ","
		}
		payload += fmt.Sprintf(`{"ts":%d,"values":{"Temp":%d.5,"RelH":40.5,"L1":311,"L2":312,"Occ":true,"a":1,"b":2,"c":3}}`, received-1000+i, i)
	}
	return telemetry(t, payload+`]}`)
}

// floods lets so many devices bring more than they are let until stop is called.
func (j *pacedJournal) floods(devices int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range devices {
		all.Go(func() {
			if err := j.bring(ctx, fmt.Sprintf("flood-%d", i), 1<<20); !errors.Is(err, context.Canceled) {
				j.t.Errorf("a device that brings much is told %v", err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// TestALiveReadingIsInTheNextEnvelope floods the journal from 50 devices while one brings a reading now and then: it is in the
// envelope that is open at that time, and the backlog has little of each envelope.
func TestALiveReadingIsInTheNextEnvelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newPacedJournal(t)
		one := telemetry(t, fourFields)
		for range 2 { // known as live before the others come
			if _, err := j.append(t.Context(), "live", one, received, nobody{}); err != nil {
				t.Fatal(err)
			}
			j.commit()
		}
		defer j.floods(50)()
		synctest.Wait()
		if first := j.commit(); len(first) != 50 {
			t.Errorf("%d devices of 50 found room at once", len(first))
		}
		backlog := 0
		for range 200 {
			var appended atomic.Bool
			go func() {
				if _, err := j.append(t.Context(), "live", one, received, nobody{}); err == nil {
					appended.Store(true)
				}
			}()
			synctest.Wait()
			if !appended.Load() {
				t.Fatal("a live reading waits")
			}
			size := len(j.open.envelope)
			seen := j.commit()
			if seen["live"] != 1 || size > 2*turnBytes {
				t.Fatalf("%d live readings in an envelope of %d bytes: %v", seen["live"], size, seen)
			}
			backlog += len(seen) - 1
			synctest.Wait()
		}
		if backlog < 200 {
			t.Errorf("the backlog had %d turns in 200 envelopes", backlog)
		}
	})
}

// TestTurnsGoRound: each of the devices that catch up has its turn before one has its second, a slow one as well.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newPacedJournal(t)
		one := telemetry(t, fourFields)
		live := func() {
			if _, err := j.append(t.Context(), "live", one, received, nobody{}); err != nil {
				t.Fatal(err)
			}
			j.commit()
		}
		live()
		live()
		const devices = 20
		defer j.floods(devices)()
		synctest.Wait()
		j.commit()
		synctest.Wait()
		had := map[string]int{}
		for range 10 * devices {
			if _, err := j.append(t.Context(), "live", one, received, nobody{}); err != nil {
				t.Fatal(err)
			}
			for device, n := range j.commit() {
				had[device] += n
			}
			synctest.Wait()
		}
		delete(had, "live")
		least, greatest := 1<<30, 0
		for _, n := range had {
			least, greatest = min(least, n), max(greatest, n)
		}
		if len(had) != devices || least == 0 || greatest > least+turnBytes/40 { // a reading has more than 40 bytes
			t.Errorf("%d devices had between %d and %d readings: %v", len(had), least, greatest, had)
		}
	})
}

// TestNobodyWaitsWhenNobodyIsLive: then devices that catch up have the whole envelope, also those that waited while one was.
func TestNobodyWaitsWhenNobodyIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newPacedJournal(t)
		one := telemetry(t, fourFields)
		for range 2 {
			if _, err := j.append(t.Context(), "live", one, received, nobody{}); err != nil {
				t.Fatal(err)
			}
			j.commit()
		}
		defer j.floods(50)()
		synctest.Wait()
		j.commit()
		synctest.Wait()
		if j.held() == 0 {
			t.Fatal("nobody waits although one is live")
		}
		for range paceMemory {
			j.commit()
			synctest.Wait()
		}
		if n := j.held(); n > 0 {
			t.Errorf("%d devices wait for turns although nobody is live", n)
		}
		if size := len(j.open.envelope); size < j.room {
			t.Errorf("the envelope has %d bytes of %d", size, j.room)
		}
	})
}

// TestATurnThatCameToNothingIsGivenBack refuses the frame of the one that has the turn: the next has it at once, although
// no envelope follows one that stays empty.
func TestATurnThatCameToNothingIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newPacedJournal(t)
		j.most = 6 << 10
		j.pace.liveUntil = 1 << 30
		for _, device := range []string{"a", "b"} {
			j.arrivals.of(device).pace.catchesUntil = 1 << 30
		}
		j.pace.turns = j.pace.allowed
		told := make(chan error, 2)
		go func() {
			_, err := j.append(t.Context(), "a", framed(t, 200), received, nobody{})
			told <- err
		}()
		synctest.Wait()
		go func() {
			_, err := j.append(t.Context(), "b", framed(t, 1), received, nobody{})
			told <- err
		}()
		synctest.Wait()
		if n := j.held(); n != 2 {
			t.Fatalf("%d wait", n)
		}
		j.commit()
		refused, taken := 0, 0
		for range 2 {
			var tooLarge *wire.Error
			switch err := <-told; {
			case err == nil:
				taken++
			case errors.As(err, &tooLarge):
				refused++
			}
		}
		if refused != 1 || taken != 1 {
			t.Errorf("%d refused, %d taken", refused, taken)
		}
	})
}

// TestWhoWaitsForATurnCanLeave ends the patience of one, and then the journal.
func TestWhoWaitsForATurnCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newPacedJournal(t)
		j.pace.liveUntil, j.pace.turns = 1<<30, j.pace.allowed
		told := map[string]chan error{}
		ctx, cancel := context.WithCancel(t.Context())
		for _, device := range []string{"first", "impatient", "last"} {
			j.arrivals.of(device).pace.catchesUntil = 1 << 30
			wait, c := context.Background(), make(chan error, 1)
			if device == "impatient" {
				wait = ctx
			}
			told[device] = c
			go func() { c <- j.bring(wait, device, 1) }()
			synctest.Wait()
		}
		cancel()
		if err := <-told["impatient"]; !errors.Is(err, context.Canceled) {
			t.Errorf("the impatient one is told %v", err)
		}
		if n := j.held(); n != 2 {
			t.Errorf("%d wait", n)
		}
		j.commit()
		if err := <-told["first"]; err != nil {
			t.Errorf("the first is told %v", err)
		}
		j.mu.Lock()
		j.stopping = true
		j.endWaits()
		j.mu.Unlock()
		if err := <-told["last"]; !errors.Is(err, ErrStopped) {
			t.Errorf("the last is told %v", err)
		}
		if n := j.held(); n != 0 || j.pace.first != nil || j.pace.last != nil {
			t.Errorf("%d wait", n)
		}
	})
}

func TestATurnAllocatesNothing(t *testing.T) {
	j := newPacedJournal(t)
	j.pace.liveUntil = 1 << 60
	j.arrivals.of("node-17").pace.catchesUntil = 1 << 60
	s := &sender{payload: []byte(fourFields)}
	s.send(t, j.journal, nobody{})
	if n := testing.AllocsPerRun(1000, func() { s.send(t, j.journal, nobody{}) }); n > 0 {
		t.Errorf("%v allocations a frame that takes a turn", n)
	}
}

// bringOneByOne appends large frames of the device, each when the one before is durable, until ctx ends.
func (j *pacedJournal) bringOneByOne(ctx context.Context, device string, frame *wire.Telemetry) error {
	forget := context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.changed.Broadcast()
	})
	defer forget()
	for {
		gen, err := j.append(ctx, device, frame, received, nobody{})
		if err != nil {
			return err
		}
		j.mu.Lock()
		for j.durable < gen && ctx.Err() == nil {
			j.changed.Wait()
		}
		j.mu.Unlock()
	}
}

// TestLargeFramesAreABacklogToo floods the journal from 50 devices that wait for each ack, but bring some 40 KB at once.
func TestLargeFramesAreABacklogToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newPacedJournal(t)
		one := telemetry(t, fourFields)
		for range 2 {
			if _, err := j.append(t.Context(), "live", one, received, nobody{}); err != nil {
				t.Fatal(err)
			}
			j.commit()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		for i := range 50 {
			frame := framed(t, 400)
			all.Go(func() { _ = j.bringOneByOne(ctx, fmt.Sprintf("flood-%d", i), frame) })
		}
		synctest.Wait()
		for range 2 * 50 { // they are not known at first
			j.commit()
			synctest.Wait()
		}
		backlog := 0
		for range 200 {
			var appended atomic.Bool
			go func() {
				if _, err := j.append(t.Context(), "live", one, received, nobody{}); err == nil {
					appended.Store(true)
				}
			}()
			synctest.Wait()
			if !appended.Load() {
				t.Fatal("a live reading waits")
			}
			size := len(j.open.envelope)
			seen := j.commit()
			if seen["live"] != 1 || len(seen) > 2 {
				t.Fatalf("%d devices in an envelope of %d bytes", len(seen), size)
			}
			backlog += len(seen) - 1
			synctest.Wait()
		}
		if backlog < 190 {
			t.Errorf("the backlog had %d turns in 200 envelopes", backlog)
		}
	})
}
