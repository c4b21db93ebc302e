package commands_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// world is one device, the ledger of a hub that may be killed, and the bucket that survives it.
type world struct {
	t  *testing.T
	kv *memory
	c  commands.Command

	mu      sync.Mutex
	process *process
	session uint64 // 0: the device is not connected
	last    uint64 // the device's newest session
	runs    int    // of the command, by the device's own count
	mute    bool   // the device does not answer
}

// process is one life of the hub.
type process struct {
	*world
	ledger *commands.Service
	dead   bool // killed: nothing of it reaches the bucket or the device
}

var errKilled = errors.New("killed")

func (p *process) Send(_ string, session uint64, cmd wire.Command) error {
	p.mu.Lock()
	if p.dead || p.session != session {
		p.mu.Unlock()
		return errGone
	}
	p.runs++
	mute, ledger := p.mute, p.ledger
	p.mu.Unlock()
	if !mute {
		ledger.Answered("d1", session, result(cmd.ID, `1`))
	}
	return nil
}

func (p *process) Ended(string, uint64, string) {}

func (p *process) Cancel(string, uint64, string) error { return errGone }

// start starts the hub.
func (w *world) start() {
	p := &process{world: w}
	w.kv.setFail(func(string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.dead {
			return errKilled
		}
		return nil
	})
	ledger, err := commands.Open(w.t.Context(), w.kv, p, commands.Config{Batch: w.kv}, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	p.ledger, w.process = ledger, p
	w.mu.Unlock()
}

// kill ends the hub without a last word; the device's connection ends with it.
func (w *world) kill() {
	w.mu.Lock()
	p := w.process
	p.dead, w.session = true, 0
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.ledger.Close(ctx) // its goroutines only
}

// connect gives the device its next session.
func (w *world) connect() {
	w.mu.Lock()
	w.last++
	w.session = w.last
	session, ledger := w.session, w.process.ledger
	w.mu.Unlock()
	ledger.SessionReady("d1", session)
	synctest.Wait()
}

func (w *world) disconnect() {
	w.mu.Lock()
	session, ledger := w.session, w.process.ledger
	w.session = 0
	w.mu.Unlock()
	ledger.SessionEnded("d1", session)
	synctest.Wait()
}

func (w *world) silence(mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = mute
}

// answer is the device's answer on its present session.
func (w *world) answer() {
	w.mu.Lock()
	ledger, session, ran := w.process.ledger, w.session, w.runs > 0
	w.mu.Unlock()
	if ran {
		ledger.Answered("d1", session, result(w.c.ID, `1`))
	}
	synctest.Wait()
}

func (w *world) progress(status string) {
	w.process.ledger.Progressed("d1", w.session, wire.Progress{ID: w.c.ID, Status: status})
	synctest.Wait()
}

// matrixStates bring a command into a state in which the faults strike.
func matrixStates() map[string]func(w *world, send func()) {
	sent := func(w *world, send func()) {
		w.silence(true)
		w.connect()
		send()
	}
	return map[string]func(w *world, send func()){
		"queued": func(_ *world, send func()) { send() },
		"about to be sent": func(w *world, send func()) { // its record is on the way
			send()
			p := w.process
			slow := true
			w.kv.setFail(func(string) error {
				if slow {
					slow = false
					time.Sleep(3 * time.Second)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if p.dead {
					return errKilled
				}
				return nil
			})
			w.connect()
		},
		"sent":     sent,
		"received": func(w *world, send func()) { sent(w, send); w.progress(wire.ProgressReceived) },
		"running":  func(w *world, send func()) { sent(w, send); w.progress(wire.ProgressRunning) },
		"done":     func(w *world, send func()) { w.connect(); send() },
	}
}

// matrixFaults strike; afterwards the device is connected and answers whatever it is sent.
func matrixFaults() map[string]func(w *world) {
	return map[string]func(w *world){
		"connection lost": func(w *world) { w.disconnect(); time.Sleep(time.Minute) },
		"hub killed":      func(w *world) { w.kill(); time.Sleep(time.Minute); w.start() },
		"hub stopped": func(w *world) {
			w.disconnect()
			shut(w.t, w.process.ledger)
			w.start()
		},
		"disk away": func(w *world) { // also what an InfluxDB that is down must not come to: the ledger does not know it
			w.kv.setFail(func(string) error { return errors.New("the disk is full") })
			w.answer()
			time.Sleep(10 * time.Second)
			w.kv.setFail(nil)
		},
		"answer late": func(w *world) {
			time.Sleep(time.Minute)
			w.answer()
		},
		"answer twice": func(w *world) { w.answer(); w.answer() },
		"device rebooted": func(w *world) { // it forgets what it ran, and runs what it gets
			w.disconnect()
			w.connect()
		},
	}
}

// TestFaultMatrix holds each state against each fault, with the device's own count of executions: at-most-once never runs
// twice, at-least-once always runs, and no command ends in a wrong word.
func TestFaultMatrix(t *testing.T) {
	survives := map[string]bool{"disk away": true, "answer late": true, "answer twice": true} // the session
	for state, reach := range matrixStates() {
		for fault, strike := range matrixFaults() {
			for _, delivery := range []commands.Delivery{commands.AtMostOnce, commands.AtLeastOnce} {
				t.Run(fmt.Sprintf("%s, %s, %s", delivery, state, fault), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := &world{t: t, kv: newMemory()}
						w.start()
						reach(w, func() {
							w.c = send(t, w.process.ledger, commands.Request{Delivery: delivery, Expires: time.Hour})
							synctest.Wait()
						})
						strike(w)
						w.silence(false)
						if w.session == 0 {
							w.connect()
						}
						time.Sleep(2 * time.Hour)
						w.judge(delivery, (state == "sent" || state == "received" || state == "running") && !survives[fault])
						shut(t, w.process.ledger)
					})
				})
			}
		}
	}
}

// judge compares the ledger's word with what the device did; gone says that the answer was lost for good.
func (w *world) judge(delivery commands.Delivery, gone bool) {
	w.t.Helper()
	c, err := w.process.ledger.Get(w.c.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	want := commands.Done
	if delivery == commands.AtMostOnce && gone {
		want = commands.Unknown
	}
	switch {
	case delivery == commands.AtMostOnce && w.runs > 1:
		w.t.Errorf("at most once, and the device ran it %d times: %+v", w.runs, c.History)
	case w.runs == 0:
		w.t.Errorf("it never ran, and is %s: %+v", c.State, c.History)
	case c.State != want:
		w.t.Errorf("it ran %d times and is %s, want %s: %+v", w.runs, c.State, want, c.History)
	}
	if open := w.process.ledger.Stats().Open; open != 0 {
		w.t.Errorf("%d commands are open", open)
	}
}
