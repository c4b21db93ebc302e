package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"telemetryhub/api/client"
)

// execution is what a device did with one command: its own journal, which the ledger is held against.
type execution struct {
	received int // frames with its id
	runs     int // how often it was carried out
	answer   answerKind
}

// answerKind is how a device answered a command the last time.
type answerKind int

const (
	unanswered answerKind = iota
	answeredResult
	answeredError
)

// executions are a device's, by command id; nil without --verify.
type executions map[string]*execution

func (e executions) of(id string) *execution {
	if e == nil {
		return &execution{}
	}
	x := e[id]
	if x == nil {
		x = &execution{}
		e[id] = x
	}
	return x
}

// reconciled is what comes of holding the ledger against the devices' journals.
type reconciled struct {
	Ledger   uint64   `json:"ledger"`   // commands that the ledger has of these devices, made in this run or sent in it
	Executed uint64   `json:"executed"` // that a device carried out
	Twice    uint64   `json:"twice"`    // carried out more than once, which at-least-once allows
	Open     uint64   `json:"open"`     // without an outcome yet
	Unknown  uint64   `json:"unknown"`  // of which the ledger says that it does not know
	Wrong    uint64   `json:"wrong"`    // where the ledger and the device disagree
	faults   []string // the first of these
}

// maxCommandFaults bounds how many are told one by one.
const maxCommandFaults = 20

func (r *reconciled) wrong(format string, args ...any) {
	r.Wrong++
	if len(r.faults) < maxCommandFaults {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

// reconcile holds the ledger's words about the commands that were made since began against what the devices did.
func (f *fleet) reconcile(ctx context.Context, began time.Time) (reconciled, error) {
	ours := make(map[string]*device, len(f.devices))
	for _, d := range f.devices {
		ours[d.id] = d
	}
	ledger, err := patiently(ctx, func() ([]client.Command, error) {
		var all []client.Command
		filter := client.CommandFilter{From: began.UTC().Format(time.RFC3339Nano), Page: 1000}
		if len(f.devices) == 1 {
			filter.Device = f.devices[0].id
		}
		for c, err := range f.api.Commands(ctx, filter) {
			if err != nil {
				return nil, err
			}
			if ours[c.Device] != nil {
				all = append(all, c)
			}
		}
		return all, nil
	})
	if err != nil {
		return reconciled{}, fmt.Errorf("read the ledger of commands: %w", err)
	}
	var r reconciled
	known := make(map[string]bool, len(ledger))
	for _, c := range ledger {
		known[c.ID] = true
		ours[c.Device].compare(&r, c)
	}
	for _, d := range f.devices {
		for _, id := range d.strangers(known) { // made before the run, and queued; or of no ledger
			c, err := patiently(ctx, func() (client.Command, error) { return f.api.Command(ctx, id) })
			switch {
			case client.IsStatus(err, http.StatusNotFound):
				r.wrong("%s: the device got command %s, and the ledger does not have it", d.id, id)
			case err != nil:
				return r, fmt.Errorf("read command %s: %w", id, err)
			default:
				d.compare(&r, c)
			}
		}
	}
	return r, nil
}

// strangers are the commands of the device's journal that are not among the known.
func (d *device) strangers(known map[string]bool) (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.commands.executions {
		if !known[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// compare holds one command against the device's journal.
func (d *device) compare(r *reconciled, c client.Command) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := execution{}
	if have := d.commands.executions[c.ID]; have != nil {
		x = *have
	}
	r.Ledger++
	if x.runs > 0 {
		r.Executed++
	}
	if x.runs > 1 {
		r.Twice++
	}
	if !c.Final() {
		r.Open++
	}
	if c.State == "unknown" {
		r.Unknown++
	}
	says := fmt.Sprintf("%s: command %s (%s) is %s after %d attempts, and the device got it %d times, ran it %d times",
		d.id, c.ID, c.Delivery, c.State, c.Attempt, x.received, x.runs)
	switch {
	case c.Delivery != "at-least-once" && (x.received > 1 || x.runs > 1),
		c.State == "done" && (x.runs == 0 || x.answer != answeredResult),
		(c.State == "failed" || c.State == "rejected") && c.Attempt > 0 && x.answer != answeredError,
		c.Attempt == 0 && x.received > 0, // the ledger says that it was surely not sent
		c.State == "cancelled" && x.runs > 0,
		c.State == "expired" && c.Delivery != "at-least-once" && x.runs > 0:
		r.wrong("%s", says)
	}
}
