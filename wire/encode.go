package wire

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Command is an operator's request on its way to a device. Expires and TTL are zero where it does not expire.
type Command struct {
	ID          string
	Method      string
	Params      json.RawMessage
	Expires     time.Time     // may not be started after it
	TTL         time.Duration // the same for devices without a clock, counted from the sending
	Attempt     int           // 1 at the first sending
	AtLeastOnce bool          // may be sent again; of MQTT: QoS 1
}

// AppendCommand appends the request frame of c.
func AppendCommand(dst []byte, c Command) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = appendQuoted(dst, c.ID)
	dst = append(dst, `,"method":`...)
	dst = appendQuoted(dst, c.Method)
	if len(c.Params) > 0 {
		dst = append(dst, `,"params":`...)
		dst = append(dst, c.Params...)
	}
	if !c.Expires.IsZero() {
		dst = append(dst, `,"expires":`...)
		dst = strconv.AppendInt(dst, c.Expires.UnixMilli(), 10)
		dst = append(dst, `,"ttl_ms":`...)
		dst = strconv.AppendInt(dst, max(0, c.TTL.Milliseconds()), 10)
	}
	dst = append(dst, `,"attempt":`...)
	dst = strconv.AppendInt(dst, int64(c.Attempt), 10)
	return append(dst, '}')
}

// AppendCancel appends hub.cancel{id}: the device is asked to give up the command with this id.
func AppendCancel(dst []byte, id string) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"hub.cancel","params":{"id":`...)
	dst = appendQuoted(dst, id)
	return append(dst, "}}"...)
}

// MethodProbe is the method of AppendProbe, and ProbeID its id: no command has one like it.
const (
	MethodProbe = "hub.probe"
	ProbeID     = "hub.probe"
)

// AppendProbe appends the request hub.probe{}: any answer, and any other frame, says that the device's program lives.
func AppendProbe(dst []byte) []byte {
	return append(dst, `{"jsonrpc":"2.0","id":"`+ProbeID+`","method":"`+MethodProbe+`","params":{}}`...)
}

// AppendAck appends hub.ack{boot, seq}: every reading of boot up to seq that reached the hub is durable or was named
// in a notice. An empty boot is left out.
func AppendAck(dst []byte, boot string, seq uint64) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"hub.ack","params":{`...)
	if boot != "" {
		dst = append(dst, `"boot":`...)
		dst = appendQuoted(dst, boot)
		dst = append(dst, ',')
	}
	dst = append(dst, `"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	return append(dst, "}}"...)
}

// AppendAckCount appends hub.ack{count}: so many frames without seq of this connection are durable.
func AppendAckCount(dst []byte, count uint64) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"hub.ack","params":{"count":`...)
	dst = strconv.AppendUint(dst, count, 10)
	return append(dst, "}}"...)
}

// Notice tells a device why something was refused, limited, quarantined or is missing. Zero members are left out.
type Notice struct {
	Code       string // a reason
	Of         string // of rate_limited: which limit
	Message    string
	Seq        uint64
	From, To   uint64
	Limit      uint64
	Value      uint64 // what was over the limit
	RetryAfter time.Duration
}

// AppendNotice appends hub.notice.
func AppendNotice(dst []byte, n Notice) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"hub.notice","params":{"code":`...)
	dst = appendQuoted(dst, n.Code)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, n.Message)
	if n.Of != "" {
		dst = append(dst, `,"of":`...)
		dst = appendQuoted(dst, n.Of)
	}
	for _, number := range [...]struct {
		name  string
		value uint64
	}{{"seq", n.Seq}, {"from", n.From}, {"to", n.To}, {"limit", n.Limit}, {"value", n.Value}, {"retry_after_ms", uint64(max(0, n.RetryAfter.Milliseconds()))}} {
		if number.value > 0 {
			dst = append(dst, ',', '"')
			dst = append(dst, number.name...)
			dst = append(dst, '"', ':')
			dst = strconv.AppendUint(dst, number.value, 10)
		}
	}
	return append(dst, "}}"...)
}

// AppendResult appends the answer to request id (JSON text) with a result (JSON text).
func AppendResult(dst, id, result []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"result":`...)
	dst = append(dst, result...)
	return append(dst, '}')
}

// AppendError appends the error answer to request id (JSON text); nil where the id is not known (JSON-RPC 2.0
// section 5: then it is null).
func AppendError(dst, id []byte, e *Error) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	if id == nil {
		dst = append(dst, "null"...)
	}
	dst = append(dst, id...)
	dst = append(dst, `,"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, e.Message)
	dst = append(dst, `,"data":{"reason":`...)
	dst = appendQuoted(dst, e.Reason)
	for _, number := range [...]struct {
		name  string
		value int64
	}{{"limit", e.Limit}, {"value", e.Value}, {"retry_after_ms", max(0, e.RetryAfter.Milliseconds())}} {
		if number.value != 0 {
			dst = append(dst, ',', '"')
			dst = append(dst, number.name...)
			dst = append(dst, '"', ':')
			dst = strconv.AppendInt(dst, number.value, 10)
		}
	}
	return append(dst, "}}}"...)
}

// appendQuoted appends s as a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
