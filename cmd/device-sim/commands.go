package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"telemetryhub/wire"
)

// rememberedCommands bounds the answers that are kept for commands that come twice.
const rememberedCommands = 32

// codeExpired is the device's own error for a command that came after its time.
const codeExpired = -32050

// commandState is what commands change. It is guarded by the device's lock.
type commandState struct {
	connections uint64
	state       map[string]json.RawMessage // of set
	answered    []answeredCommand
}

type answeredCommand struct {
	id      string
	payload []byte
}

// frame takes whatever is neither an ack nor the answer to hello.
func (d *device) frame(l link, in incoming) {
	switch {
	case in.Method == "hub.ack":
		d.ackFrame(in)
	case in.Method == "hub.notice":
		var n notice
		if err := json.Unmarshal(in.Params, &n); err != nil {
			d.fleet.tally.note("a hub.notice is not understood", err)
			return
		}
		d.noticed(n)
	case in.Method == "hub.state":
		d.desiredFrame(l, in.Params)
	case in.Method == "hub.probe" && len(in.ID) > 0:
		d.respond(l, in.ID, struct{}{}, nil)
	case in.Method != "" && len(in.ID) > 0:
		d.command(l, in)
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

// command runs an operator's command and answers it. One that comes again is answered again and not run again.
func (d *device) command(l link, in incoming) {
	began := time.Now()
	d.fleet.tally.commandsReceived.Add(1)
	d.mu.Lock()
	for _, old := range d.commands.answered {
		if old.id == string(in.ID) {
			d.mu.Unlock()
			d.write(l, old.payload)
			return
		}
	}
	result, fault := d.execute(in, began)
	payload, err := answer(in.ID, result, fault)
	if err != nil {
		d.mu.Unlock()
		d.fleet.tally.note("a command's answer cannot be encoded", err)
		return
	}
	if len(d.commands.answered) == rememberedCommands {
		d.commands.answered = append(d.commands.answered[:0], d.commands.answered[1:]...)
	}
	d.commands.answered = append(d.commands.answered, answeredCommand{id: string(in.ID), payload: payload})
	d.mu.Unlock()
	if d.write(l, payload) {
		d.fleet.tally.commandAnswered(time.Since(began))
	}
	if in.Method == "reboot" && fault == nil {
		d.reboot(l)
	}
}

// execute carries a command out. With the lock held.
func (d *device) execute(in incoming, now time.Time) (any, *rpcError) {
	if in.Expires > 0 && !d.out.clockless && now.UnixMilli() > in.Expires {
		return nil, &rpcError{Code: codeExpired, Message: "the command came after its time", Data: errorData{Reason: "expired"}}
	}
	switch in.Method {
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
	return nil, &rpcError{Code: wire.CodeMethodNotFound, Message: "method not found; this device knows ping, reboot, set"}
}

// reboot ends the connection and begins a new numbering with the next.
func (d *device) reboot(l link) {
	d.mu.Lock()
	d.out.reboot(newBoot())
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
	err := l.answer(payload)
	if err != nil && !errors.Is(err, errFinished) {
		d.fleet.tally.note("an answer could not be written", err)
	}
	return err == nil
}
