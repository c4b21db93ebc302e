package wire

import (
	"encoding/json"
	"strconv"
)

// State is what a device is told of its desired state. Members are JSON objects.
type State struct {
	Desired json.RawMessage `json:"desired,omitempty"` // whole; nil only where it is too large for the device
	Version uint64          `json:"version"`           // of the device's document; 0: nothing was ever desired or reported
	Delta   json.RawMessage `json:"delta,omitempty"`   // what of desired differs from what the device reported; nil: nothing
}

// AppendState appends hub.state.
func AppendState(dst []byte, s State) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"hub.state","params":`...)
	dst = AppendStateParams(dst, s)
	return append(dst, '}')
}

// AppendStateParams appends the params of hub.state alone, as an MQTT topic bears them.
func AppendStateParams(dst []byte, s State) []byte {
	dst = append(dst, '{')
	if s.Desired != nil {
		dst = append(dst, `"desired":`...)
		dst = append(dst, s.Desired...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"version":`...)
	dst = strconv.AppendUint(dst, s.Version, 10)
	if s.Delta != nil {
		dst = append(dst, `,"delta":`...)
		dst = append(dst, s.Delta...)
	}
	return append(dst, '}')
}

// DecodeState returns what a device reports, a merge patch (RFC 7396) that is an object, as a view into the params of a
// frame that was decoded. The error is of type [*Error].
func DecodeState(params []byte) (reported []byte, err error) {
	reported, e := reportedOf(params)
	if e != nil {
		return nil, e
	}
	if reported == nil {
		return nil, badParams("state needs params{} with reported{}")
	}
	return reported, nil
}

// DecodeStatePayload returns what a device reports in a payload that came by itself, as MQTT and HTTP bear it: an object
// with a member reported is the params, any other the reported members themselves. The error is of type [*Error].
func (d *Decoder) DecodeStatePayload(data []byte, as Dialect) (reported []byte, err error) {
	text, e := d.open(data, as)
	if e == nil && as.CBOR && d.cbor.loose { // in the words that JSON has, as it is kept
		text, e = d.cbor.text(data, false, true)
	}
	if e != nil {
		return nil, e
	}
	if reported, e = reportedOf(text); e != nil {
		return nil, e
	}
	if reported == nil {
		return text, nil
	}
	return reported, nil
}

// reportedOf returns the member reported of an object, nil where there is none.
func reportedOf(text []byte) (reported []byte, e *Error) {
	c := cursor{text: text}
	if len(text) == 0 || c.kind() != '{' {
		return nil, badParams("state is an object with reported{}")
	}
	var scratch []byte
	for c.enter(); c.more(); {
		var name []byte
		name, scratch = unquote(scratch, c.quoted())
		value := c.value()
		if string(name) != "reported" {
			continue
		}
		if value[0] != '{' {
			return nil, badParams("/reported is an object of what is to change; null within it removes a member")
		}
		reported = value
	}
	return reported, nil
}
