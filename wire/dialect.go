package wire

import (
	"mime"
	"strings"
)

// Dialect is how a device writes: the hub's own model in JSON or CBOR (RFC 8949), and besides it SenML (RFC 8428) in
// either. The zero value is the default, the hub's model in JSON.
type Dialect struct {
	CBOR  bool // else JSON
	SenML bool // a list is a SenML pack; an object is the hub's own model all the same
}

// dialects are those that the hub speaks, the default first.
var dialects = [...]struct {
	subprotocol, mediaType string
	dialect                Dialect
}{
	{"hub.v1+json", "application/json", Dialect{}},
	{"hub.v1+cbor", "application/cbor", Dialect{CBOR: true}},
	{"senml+json", "application/senml+json", Dialect{SenML: true}},
	{"senml+cbor", "application/senml+cbor", Dialect{CBOR: true, SenML: true}},
}

// Subprotocols returns the names of the dialects as WebSocket subprotocols, the default first.
func Subprotocols() []string {
	var names []string
	for _, d := range dialects {
		names = append(names, d.subprotocol)
	}
	return names
}

// MediaTypes returns the names of the dialects as a Content-Type, the default first.
func MediaTypes() []string {
	var names []string
	for _, d := range dialects {
		names = append(names, d.mediaType)
	}
	return names
}

// DialectOfSubprotocol returns the dialect that a WebSocket subprotocol names.
func DialectOfSubprotocol(name string) (Dialect, bool) {
	for _, d := range dialects {
		if d.subprotocol == name {
			return d.dialect, true
		}
	}
	return Dialect{}, false
}

// DialectOfMediaType returns the dialect that a Content-Type names, whatever its parameters.
func DialectOfMediaType(contentType string) (Dialect, bool) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return Dialect{}, false
	}
	for _, d := range dialects {
		if strings.EqualFold(d.mediaType, media) {
			return d.dialect, true
		}
	}
	return Dialect{}, false
}

// DialectOfPayload tells the dialect of a payload that nothing names, as those of MQTT 3.1.1, by its first byte: CBOR's
// lists, maps and tags begin with bytes that no JSON text begins with. A list is a SenML pack.
func DialectOfPayload(payload []byte) Dialect {
	return Dialect{CBOR: len(payload) > 0 && payload[0] >= majorList<<5, SenML: true}
}
