package wire

import "bytes"

// Kind is what a device's frame is.
type Kind uint8

// The kinds of frames.
const (
	KindRequest      Kind = iota + 1 // a method with an id: answered once its effect is durable
	KindNotification                 // a method without an id
	KindTelemetry                    // an object with neither: readings
	KindAnswer                       // a result or an error with a command's id
	KindPack                         // a SenML pack: readings
)

// Frame is one frame of a device. All members are views into the frame, or into the decoder where it was CBOR.
type Frame struct {
	Kind   Kind
	ID     []byte // JSON text of the id, nil without one
	Method []byte
	Params []byte // JSON text; of KindTelemetry and KindPack the whole frame; nil when absent
	Result []byte // JSON text, of answers
	Fault  []byte // JSON text of the error member, of answers
}

// Decoder decodes frames. It is kept for its scratch and serves one goroutine. The zero value is ready.
type Decoder struct {
	checker
	cbor transcoder
	pack pack
	text []byte // unescaped strings of the current frame
}

// DecodeFrame says what a frame of JSON is, as [Decoder.Decode] does.
func (d *Decoder) DecodeFrame(data []byte) (Frame, error) { return d.Decode(data, Dialect{}) }

// Decode says what a frame is. The error is of type [*Error]; when the frame's id could be read, the returned Frame
// bears it, so that the error can be answered.
func (d *Decoder) Decode(data []byte, as Dialect) (Frame, error) {
	text, e := d.open(data, as)
	if e != nil {
		return Frame{}, e
	}
	f, err := d.frame(text, as)
	if !as.CBOR || !d.cbor.loose {
		return f, err
	}
	switch {
	case f.Kind == KindPack, f.Kind == KindTelemetry, string(f.Method) == "telemetry", string(f.Method) == "event":
		if f.ID != nil && !wellFormedID(f.ID) {
			return Frame{}, badID()
		}
		return f, err // what JSON has no words for is a flaw of the reading
	}
	if text, e = d.cbor.text(data, as.SenML, true); e != nil {
		return Frame{}, e
	}
	return d.frame(text, as)
}

// open checks data and returns it as text: JSON as it came, CBOR rewritten.
func (d *Decoder) open(data []byte, as Dialect) ([]byte, *Error) {
	if as.CBOR {
		return d.cbor.text(data, as.SenML, false)
	}
	return d.check(data)
}

func (d *Decoder) frame(text []byte, as Dialect) (Frame, error) {
	d.text = d.text[:0]
	switch text[0] {
	case '{':
	case '[':
		if as.SenML {
			return Frame{Kind: KindPack, Params: text}, nil
		}
		return Frame{}, badFrame("JSON-RPC batches are not taken; send the frames one by one, or readings[] in one telemetry")
	default:
		return Frame{}, badFrame("a frame is an object")
	}
	f, hasMethod, e := d.members(text)
	if e != nil {
		return f, e
	}
	switch {
	case hasMethod && f.ID != nil:
		f.Kind = KindRequest
	case hasMethod:
		f.Kind = KindNotification
	case f.ID == nil:
		f.Kind, f.Params = KindTelemetry, text
	case f.Result != nil != (f.Fault != nil):
		f.Kind = KindAnswer
	default:
		return f, badFrame("an object with an id needs a method, a result or an error")
	}
	return f, nil
}

// members reads the members of JSON-RPC and leaves the others alone.
func (d *Decoder) members(text []byte) (f Frame, hasMethod bool, e *Error) {
	c := cursor{text: text}
	c.enter()
	var version []byte
	for c.more() {
		var name []byte
		name, d.text = unquote(d.text, c.quoted())
		value := c.value()
		switch string(name) {
		case "id":
			if (value[0] != '"' && value[0] != '-' && (value[0] < '0' || value[0] > '9')) || len(value) > MaxFrameID {
				e = badID()
				continue
			}
			f.ID = value
		case "method":
			if value[0] == '"' {
				f.Method, d.text = unquote(d.text, value)
				hasMethod = true
			}
		case "params":
			f.Params = value
		case "result":
			f.Result = value
		case "error":
			f.Fault = value
		case "jsonrpc":
			version = value
		}
	}
	if e == nil && version != nil && (hasMethod || f.ID != nil) && string(version) != `"2.0"` {
		e = badFrame(`"jsonrpc" is %s; it is "2.0" or left out`, clip(version))
	}
	if e == nil && len(f.Method) > MaxMethod {
		e = badFrame("a method of %d bytes is longer than %d", len(f.Method), MaxMethod)
	}
	return f, hasMethod, e
}

func badID() *Error {
	return badFrame("an id is a string or a number of at most %d bytes", MaxFrameID)
}

// wellFormedID reports whether an id is JSON, and not what begins like it in CBOR's diagnostic notation, as -Infinity
// and 1(…) do.
func wellFormedID(id []byte) bool {
	return id[0] == '"' || !bytes.ContainsAny(id, "(I")
}

// clip shortens what is quoted in a message.
func clip(b []byte) []byte {
	const most = 64
	if len(b) > most {
		return append(append([]byte(nil), b[:most]...), "…"...)
	}
	return b
}
