package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"time"

	"telemetryhub/wire"
)

// rememberedCommands bounds the answers that are kept for commands that come twice.
const rememberedCommands = 32

// The device's own errors: a command that came after its time, and one that was given up as the hub asked.
const (
	codeExpired   = -32050
	codeCancelled = -32051
)

// longestWork bounds what the method work takes.
const longestWork = 10 * time.Minute

// commandState is what commands change. It is guarded by the device's lock.
type commandState struct {
	connections uint64
	state       map[string]json.RawMessage // of set
	answered    []answeredCommand
	working     map[string]*time.Timer // by id: what is being worked at, and its end
	executions  executions
}

type answeredCommand struct {
	id      string
	payload []byte
}

// frame takes whatever is neither an ack nor the answer to hello.
func (d *device) frame(l link, in incoming) {
	switch {
	case d.mute:
	case in.Method == "hub.ack":
		d.ackFrame(in)
	case in.Method == "hub.notice":
		var n notice
		if err := json.Unmarshal(in.Params, &n); err != nil {
			d.fleet.tally.note("a hub.notice is not understood", err)
			return
		}
		d.noticed(n)
		if n.Code == wire.ReasonCredentials {
			d.renew(l)
		}
	case in.Method == "hub.state":
		d.desiredFrame(l, in.Params)
	case in.Method == "hub.cancel":
		d.giveUp(l, in)
	case in.Method == "hub.credentials" && d.enrolment.isOpen():
		d.enrolled(l, in)
	case in.Method == "hub.probe" && len(in.ID) > 0:
		d.respond(l, in.ID, struct{}{}, nil)
	case in.Method == "hub.credentials" && len(in.ID) > 0:
		d.rotate(l, in)
	case in.Method != "" && len(in.ID) > 0:
		d.command(l, in)
	case in.Method == "" && string(in.ID) == renewID:
		d.renewed(l, in)
	case in.Method == "" && in.Error != nil:
		d.fleet.tally.refusedBy(in.Error)
	}
}

func (d *device) ackFrame(in incoming) {
	var ack struct {
		Boot string `json:"boot"`
		Seq  uint64 `json:"seq"`
	}
	if err := json.Unmarshal(in.Params, &ack); err != nil {
		d.fleet.tally.note("a hub.ack is not understood", err)
		return
	}
	d.acked(ack.Boot, ack.Seq)
}

// command runs an operator's command and answers it. One that comes again is answered again and not run again; one that
// is worked at is answered at its end.
func (d *device) command(l link, in incoming) {
	began := time.Now()
	d.fleet.tally.commandsReceived.Add(1)
	d.mu.Lock()
	x := d.commands.executions.of(idOf(in.ID))
	x.received++
	if d.commands.working[string(in.ID)] != nil {
		d.mu.Unlock()
		return
	}
	for _, old := range d.commands.answered {
		if old.id == string(in.ID) {
			d.mu.Unlock()
			d.write(l, old.payload)
			return
		}
	}
	if in.Method == "work" {
		if fault := d.work(in, began); fault == nil {
			x.runs++
			d.mu.Unlock()
			return
		}
	}
	result, fault := d.execute(in, began)
	if fault == nil {
		x.runs++
	}
	payload := d.conclude(in.ID, result, fault)
	d.mu.Unlock()
	if d.write(l, payload) {
		d.fleet.tally.commandAnswered(time.Since(began))
	}
	if in.Method == "reboot" && fault == nil {
		d.reboot(l)
	}
}

// conclude makes a command's answer and remembers it. With the lock held.
func (d *device) conclude(id json.RawMessage, result any, fault *rpcError) []byte {
	x := d.commands.executions.of(idOf(id))
	if x.answer = answeredResult; fault != nil {
		x.answer = answeredError
	}
	payload, err := answer(id, result, fault)
	if err != nil {
		d.fleet.tally.note("a command's answer cannot be encoded", err)
		return nil
	}
	if len(d.commands.answered) == rememberedCommands {
		d.commands.answered = append(d.commands.answered[:0], d.commands.answered[1:]...)
	}
	d.commands.answered = append(d.commands.answered, answeredCommand{id: string(id), payload: payload})
	return payload
}

// idOf is a command's id without its quotes.
func idOf(id json.RawMessage) string { return strings.Trim(string(id), `"`) }

// work begins what takes as many seconds as its params say, and is answered at its end on the connection of then. With
// the lock held.
func (d *device) work(in incoming, began time.Time) *rpcError {
	takes, fault := workTime(in.Params)
	if fault == nil {
		fault = d.overdue(in, began)
	}
	if fault != nil {
		return fault
	}
	if d.commands.working == nil {
		d.commands.working = make(map[string]*time.Timer)
	}
	d.commands.working[string(in.ID)] = time.AfterFunc(takes, func() {
		d.mu.Lock()
		if d.commands.working[string(in.ID)] == nil {
			d.mu.Unlock()
			return // given up, or gone with a reboot
		}
		delete(d.commands.working, string(in.ID))
		payload := d.conclude(in.ID, map[string]any{"seconds": takes.Seconds()}, nil)
		d.mu.Unlock()
		if l := d.link(); l != nil && d.write(l, payload) {
			d.fleet.tally.commandAnswered(time.Since(began))
		}
	})
	return nil
}

func workTime(params json.RawMessage) (time.Duration, *rpcError) {
	var p struct {
		Seconds float64 `json:"seconds"`
	}
	if json.Unmarshal(params, &p) != nil || p.Seconds < 0 || p.Seconds > longestWork.Seconds() {
		return 0, &rpcError{Code: wire.CodeInvalidParams, Message: "work wants {\"seconds\":N}, at most 600"}
	}
	return time.Duration(p.Seconds * float64(time.Second)), nil
}

// giveUp takes hub.cancel: work that is not at its end is given up, of anything else nothing comes.
func (d *device) giveUp(l link, in incoming) {
	var asked struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(in.Params, &asked); err != nil {
		d.fleet.tally.note("a hub.cancel is not understood", err)
		return
	}
	id := json.RawMessage(`"` + asked.ID + `"`)
	d.mu.Lock()
	timer := d.commands.working[string(id)]
	if timer == nil || !timer.Stop() {
		d.mu.Unlock()
		return
	}
	delete(d.commands.working, string(id))
	d.commands.executions.of(asked.ID).runs-- // it did not come to anything
	payload := d.conclude(id, nil, &rpcError{Code: codeCancelled, Message: "given up", Data: errorData{Reason: "cancelled"}})
	d.mu.Unlock()
	if d.write(l, payload) {
		d.fleet.tally.commandsAnswered.Add(1)
	}
}

// overdue refuses a command that came after its time.
func (d *device) overdue(in incoming, now time.Time) *rpcError {
	if in.Expires > 0 && !d.out.clockless && now.UnixMilli() > in.Expires {
		return &rpcError{Code: codeExpired, Message: "the command came after its time", Data: errorData{Reason: "expired"}}
	}
	return nil
}

// execute carries a command out. With the lock held.
func (d *device) execute(in incoming, now time.Time) (any, *rpcError) {
	if fault := d.overdue(in, now); fault != nil {
		return nil, fault
	}
	switch in.Method {
	case "work": // of which work has not begun
		_, fault := workTime(in.Params)
		return nil, fault
	case "ping":
		return map[string]any{"pong": true, "time": now.UnixMilli(), "boot": d.out.boot(), "queued": d.out.backlog()}, nil
	case "reboot":
		return map[string]any{"rebooting": true, "boot": d.out.boot()}, nil
	case "set":
		var values map[string]json.RawMessage
		if params := bytes.TrimSpace(in.Params); len(params) == 0 || params[0] != '{' || json.Unmarshal(params, &values) != nil || len(values) == 0 {
			return nil, &rpcError{Code: wire.CodeInvalidParams, Message: "set wants an object of what to set, e.g. {\"interval\":10}"}
		}
		if d.commands.state == nil {
			d.commands.state = make(map[string]json.RawMessage)
		}
		maps.Copy(d.commands.state, values)
		return maps.Clone(d.commands.state), nil
	}
	return nil, &rpcError{Code: wire.CodeMethodNotFound, Message: "method not found; this device knows ping, reboot, set, work"}
}

// reboot ends the connection and begins a new numbering with the next.
func (d *device) reboot(l link) {
	d.mu.Lock()
	d.out.reboot(newBoot())
	for id, timer := range d.commands.working { // nothing comes of what it was at
		timer.Stop()
		delete(d.commands.working, id)
	}
	d.mu.Unlock()
	l.restart()
}

func (d *device) respond(l link, id json.RawMessage, result any, fault *rpcError) {
	payload, err := answer(id, result, fault)
	if err != nil {
		d.fleet.tally.note("an answer cannot be encoded", err)
		return
	}
	d.write(l, payload)
}

func (d *device) write(l link, payload []byte) bool {
	if payload == nil {
		return false
	}
	err := l.answer(payload)
	if err != nil && !errors.Is(err, errFinished) {
		d.fleet.tally.note("an answer could not be written", err)
	}
	return err == nil
}
