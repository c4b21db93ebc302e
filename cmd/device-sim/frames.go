package main

import (
	"encoding/json"
	"strconv"
	"time"

	"telemetryhub/wire"
)

const wireMaxSeq = wire.MaxSeq

// frameForm says how a telemetry object goes out: as a JSON-RPC notification, or bare where the topic says what it is.
type frameForm struct {
	before, after string
	bootAlways    bool // there is no hello that named the boot
	encoding      encoding
	device        string // the base name of SenML
}

var (
	formWSS  = frameForm{before: `{"method":"telemetry","params":`, after: `}`}
	formMQTT = frameForm{bootAlways: true}
)

// appendFrame appends readings first to first+count-1 as one frame.
func (b *outbox) appendFrame(dst []byte, form frameForm, epoch numbering, first, count uint64) []byte {
	start := len(dst)
	if form.encoding.senML() {
		dst = b.appendPack(dst, form.device, first, count)
	} else {
		dst = b.appendObject(dst, form, epoch, first, count)
	}
	if form.encoding.binary() {
		encoded, _ := form.encoding.encode(dst[start:]) // JSON that was just written: it cannot fail
		dst = append(dst[:start], encoded...)
	}
	return dst
}

// appendObject appends them as the hub's own model. By hand: this is the hot path.
func (b *outbox) appendObject(dst []byte, form frameForm, epoch numbering, first, count uint64) []byte {
	dst = append(dst, form.before...)
	dst = append(dst, '{')
	if form.bootAlways || epoch.boot != b.boot() {
		dst = append(dst, `"boot":"`...)
		dst = append(dst, epoch.boot...) // of base32 letters
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"seq":`...)
	dst = strconv.AppendUint(dst, first-epoch.first+1, 10)
	dst = append(dst, ',')
	if count == 1 {
		dst = b.appendReading(dst, first, b.times.at(first-b.acked-1))
	} else {
		dst = append(dst, `"readings":[`...)
		for n := first; n < first+count; n++ {
			if n > first {
				dst = append(dst, ',')
			}
			dst = append(dst, '{')
			dst = b.appendReading(dst, n, b.times.at(n-b.acked-1))
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	dst = append(dst, '}')
	return append(dst, form.after...)
}

// appendReading appends ts and values as members.
func (b *outbox) appendReading(dst []byte, n uint64, ts int64) []byte {
	if !b.clockless {
		dst = append(dst, `"ts":`...)
		dst = strconv.AppendInt(dst, ts, 10)
		dst = append(dst, ',')
	}
	dst = append(dst, `"values":`...)
	return b.source.AppendValues(dst, n)
}

// helloID is the id of the one request that a device makes.
const helloID = `"hello"`

// hello is the first frame of a connection. A device that numbers nothing asks for acks that count its frames.
func hello(boot string, clockless, counts bool, now time.Time) []byte {
	frame := `{"jsonrpc":"2.0","id":` + helloID + `,"method":"hello","params":{`
	if counts {
		frame += `"ack":true`
	} else {
		frame += `"boot":"` + boot + `"`
	}
	if !clockless {
		frame += `,"time":` + strconv.FormatInt(now.UnixMilli(), 10)
	}
	return []byte(frame + `,"firmware":"1.0.0","model":"device-sim","methods":["ping","reboot","set","work"]}}`)
}

// incoming is any frame from the hub.
type incoming struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`

	Expires int64 `json:"expires"` // ms since the epoch; of a command
}

// rpcError is an error answer, ours or the hub's.
type rpcError struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Data    errorData `json:"data,omitzero"`
}

type errorData struct {
	Reason       string `json:"reason,omitempty"`
	RetryAfterMs int64  `json:"retry_after_ms,omitempty"`
}

// notice is the params of hub.notice.
type notice struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Seq          uint64 `json:"seq"`
	From         uint64 `json:"from"`
	To           uint64 `json:"to"`
	RetryAfterMs int64  `json:"retry_after_ms"`
}

// welcome is the answer to hello, as far as a device needs it.
type welcome struct {
	Ack        uint64  `json:"ack"`
	KeepaliveS float64 `json:"keepalive_s"`
	desiredState
}

const (
	ackBoot = `{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"`
	ackSeq  = `","seq":`
)

// parseAck reads the one frame that comes often, as the hub writes it. Any other form is left to encoding/json.
func parseAck(frame []byte) (boot []byte, seq uint64, ok bool) {
	if len(frame) < len(ackBoot) || string(frame[:len(ackBoot)]) != ackBoot {
		return nil, 0, false
	}
	rest := frame[len(ackBoot):]
	end := 0
	for end < len(rest) && rest[end] != '"' && rest[end] != '\\' {
		end++
	}
	boot, rest = rest[:end], rest[end:]
	if len(rest) < len(ackSeq) || string(rest[:len(ackSeq)]) != ackSeq {
		return nil, 0, false
	}
	rest = rest[len(ackSeq):]
	digits := 0
	for ; digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' && digits < 17; digits++ {
		seq = seq*10 + uint64(rest[digits]-'0')
	}
	return boot, seq, digits > 0 && string(rest[digits:]) == "}}"
}

// answer encodes the answer to a command.
func answer(id json.RawMessage, result any, fault *rpcError) ([]byte, error) {
	return json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Result  any             `json:"result,omitempty"`
		Error   *rpcError       `json:"error,omitempty"`
	}{"2.0", id, result, fault})
}
