package main

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/fxamacker/cbor/v2"
)

// encoding is how a device writes its frames: by a library of others where it is CBOR, so that a mistake of the hub's
// own codec is not made here as well.
type encoding string

const (
	encodingJSON      encoding = "json"
	encodingCBOR      encoding = "cbor"
	encodingSenML     encoding = "senml+json"
	encodingSenMLCBOR encoding = "senml+cbor"
)

func encodings() []string {
	return []string{string(encodingJSON), string(encodingCBOR), string(encodingSenML), string(encodingSenMLCBOR)}
}

func (e encoding) binary() bool { return e == encodingCBOR || e == encodingSenMLCBOR }

func (e encoding) senML() bool { return e == encodingSenML || e == encodingSenMLCBOR }

func (e encoding) subprotocol() string {
	if e.senML() {
		return string(e)
	}
	return "hub.v1+" + string(e)
}

// encode rewrites a frame of JSON that the simulator wrote.
func (e encoding) encode(frame []byte) ([]byte, error) {
	if !e.binary() {
		return frame, nil
	}
	dec := json.NewDecoder(bytes.NewReader(frame))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	mode, err := cbor.EncOptions{ShortestFloat: cbor.ShortestFloat16}.EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(e.numbered(value))
}

// senMLLabel returns the number of a label that the simulator writes (RFC 8428 table 6).
func senMLLabel(name string) (int, bool) {
	switch name {
	case "bn":
		return -2, true
	case "bt":
		return -3, true
	case "n":
		return 0, true
	case "u":
		return 1, true
	case "v":
		return 2, true
	case "t":
		return 6, true
	}
	return 0, false
}

// numbered makes numbers of what JSON has as text, and in a SenML pack, which is a list, of labels.
func (e encoding) numbered(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64() // the simulator writes none that is out of range
		return f
	case map[string]any:
		for name := range v {
			v[name] = encodingCBOR.numbered(v[name])
		}
	case []any:
		for i, element := range v {
			v[i] = encodingCBOR.numbered(element)
			if record, ok := v[i].(map[string]any); ok && e.senML() {
				v[i] = labelled(record)
			}
		}
	}
	return value
}

func labelled(record map[string]any) map[any]any {
	out := make(map[any]any, len(record))
	for name, value := range record {
		if label, ok := senMLLabel(name); ok {
			out[label] = value
		} else {
			out[name] = value
		}
	}
	return out
}

// decode rewrites a frame of the hub as JSON, its members in the order of their names.
func (e encoding) decode(frame []byte) ([]byte, error) {
	if !e.binary() {
		return frame, nil
	}
	var value any
	if err := cbor.Unmarshal(frame, &value); err != nil {
		return nil, err
	}
	return json.Marshal(named(value))
}

// named makes maps that JSON has of those that CBOR has.
func named(value any) any {
	switch v := value.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			text, _ := name.(string)
			out[text] = named(member)
		}
		return out
	case []any:
		for i := range v {
			v[i] = named(v[i])
		}
	}
	return value
}

// unitOf is the unit of what the simulator measures, "" if it is none of SenML's.
func unitOf(field string) string {
	switch field {
	case "temperature", "Temp":
		return "Cel"
	case "humidity", "RH":
		return "%RH"
	}
	return ""
}

// appendPack appends readings first to first+count-1 as a SenML pack: the device's id is the base name, the first time
// the base time, to which the others are relative. A pack bears no numbers.
func (b *outbox) appendPack(dst []byte, device string, first, count uint64) []byte {
	base := b.times.at(first - b.acked - 1)
	names := b.source.Names()
	var values []float64
	dst = append(dst, '[')
	for n := first; n < first+count; n++ {
		ts := b.times.at(n - b.acked - 1)
		values = b.source.Values(values[:0], n)
		for i, name := range names {
			if n == first && i == 0 {
				dst = append(dst, `{"bn":"`...)
				dst = append(dst, device...) // no character of an id needs an escape
				dst = append(dst, `:","bt":`...)
				dst = appendSeconds(dst, base)
				dst = append(dst, ',')
			} else {
				dst = append(dst, ",{"...)
			}
			if ts != base {
				dst = append(dst, `"t":`...)
				dst = appendSeconds(dst, ts-base)
				dst = append(dst, ',')
			}
			dst = append(dst, `"n":`...)
			dst = strconv.AppendQuote(dst, name)
			if unit := unitOf(name); unit != "" && n == first {
				dst = append(dst, `,"u":"`...)
				dst = append(dst, unit...)
				dst = append(dst, '"')
			}
			dst = append(dst, `,"v":`...)
			dst = strconv.AppendFloat(dst, values[i], 'f', -1, 64)
			dst = append(dst, '}')
		}
	}
	return append(dst, ']')
}

func appendSeconds(dst []byte, ms int64) []byte {
	return strconv.AppendFloat(dst, float64(ms)/1000, 'f', -1, 64)
}
