package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"telemetryhub/wire"
)

// Side is one half of a document.
type Side string

// The two halves.
const (
	Desired  Side = "desired"
	Reported Side = "reported"
)

// half is one side of a document as it is kept.
type half struct {
	Doc     json.RawMessage `json:"doc,omitempty"`   // an object
	Times   json.RawMessage `json:"times,omitempty"` // of the same shape: when each value came, Unix ms
	Version uint64          `json:"version,omitempty"`
	At      time.Time       `json:"at,omitzero"`
	By      string          `json:"by,omitempty"`
}

// record is one device's document in the bucket.
type record struct {
	Device   string   `json:"device"`
	Version  uint64   `json:"version"` // grows by one with each change of either half
	Desired  half     `json:"desired"`
	Reported half     `json:"reported"`
	History  []Change `json:"history,omitempty"` // the oldest first; not in the mirror
}

// Change is one change of a document.
type Change struct {
	Version uint64          `json:"version"`
	Time    time.Time       `json:"time"`
	Side    Side            `json:"side"`
	Actor   string          `json:"actor"`           // an operator's name, or "device"
	Patch   json.RawMessage `json:"patch,omitempty"` // what has changed, as a merge patch
	Bytes   int             `json:"bytes,omitempty"` // of a patch that was too large to be kept
}

// Bounds of a document's history. Of each half the newest are kept, so that a busy device does not push out what its
// operators did.
const (
	MaxChanges   = 32      // of each half
	maxKeptPatch = 2 << 10 // bytes
)

func (r *record) half(side Side) *half {
	if side == Desired {
		return &r.Desired
	}
	return &r.Reported
}

// trees parses a half that was kept.
func (h *half) trees() (doc, times map[string]any, err error) {
	if doc, err = parseKept(h.Doc); err == nil {
		times, err = parseKept(h.Times)
	}
	return doc, times, err
}

func parseKept(text []byte) (map[string]any, error) {
	if len(text) == 0 {
		return map[string]any{}, nil
	}
	return parseObject(text)
}

// note adds a change to the history and drops the oldest of its half beyond MaxChanges.
func (r *record) note(c Change) {
	if len(c.Patch) > maxKeptPatch {
		c.Bytes, c.Patch = len(c.Patch), nil
	}
	r.History = append(r.History, c)
	n, oldest := 0, -1
	for i := range r.History {
		if r.History[i].Side != c.Side {
			continue
		}
		if oldest < 0 {
			oldest = i
		}
		n++
	}
	if n > MaxChanges {
		r.History = append(r.History[:oldest], r.History[oldest+1:]...)
	}
}

func (r *record) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // documents stay as they were sent
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode the state of device %s: %w", r.Device, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func decodeRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("record: %w", err)
	}
	if err := wire.CheckDeviceID(r.Device); err != nil || r.Version == 0 {
		return record{}, errors.New("record: no device's state")
	}
	return r, nil
}

// keyOf escapes a device id for NATS, whose keys take no colon and no dot at their ends. '=' is in no device id.
func keyOf(device string) string {
	return strings.NewReplacer(":", "=3A", ".", "=2E").Replace(device)
}

func deviceOf(key string) string {
	return strings.NewReplacer("=3A", ":", "=2E", ".").Replace(key)
}
