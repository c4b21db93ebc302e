package wire

// Kind is what a device's frame is.
type Kind uint8

// The kinds of frames.
const (
	KindRequest      Kind = iota + 1 // a method with an id: answered once its effect is durable
	KindNotification                 // a method without an id
	KindTelemetry                    // an object with neither: readings
	KindAnswer                       // a result or an error with a command's id
)

// Frame is one frame of a device. All members are views into the frame.
type Frame struct {
	Kind   Kind
	ID     []byte // JSON text of the id, nil without one
	Method []byte
	Params []byte // JSON text; of KindTelemetry the whole object; nil when absent
	Result []byte // JSON text, of answers
	Fault  []byte // JSON text of the error member, of answers
}

// Decoder decodes frames. It is kept for its scratch and serves one goroutine. The zero value is ready.
type Decoder struct {
	checker
	text []byte // unescaped strings of the current frame
}

// DecodeFrame says what a text frame is. The error is of type [*Error]; when the frame's id could be read, the
// returned Frame bears it, so that the error can be answered.
func (d *Decoder) DecodeFrame(data []byte) (Frame, error) {
	text, e := d.check(data)
	if e != nil {
		return Frame{}, e
	}
	d.text = d.text[:0]
	switch text[0] {
	case '{':
	case '[':
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
				e = badFrame("an id is a string or a number of at most %d bytes", MaxFrameID)
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

// clip shortens what is quoted in a message.
func clip(b []byte) []byte {
	const most = 64
	if len(b) > most {
		return append(append([]byte(nil), b[:most]...), "…"...)
	}
	return b
}
