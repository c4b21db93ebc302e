package bridge

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// fault is what is wrong with a packet. It ends the connection (MQTT 5 section 4.13.1).
type fault struct {
	code reasonCode
	text string
}

func (f *fault) Error() string { return f.text }

func malformed(format string, args ...any) *fault {
	return &fault{code: codeMalformed, text: fmt.Sprintf(format, args...)}
}

func violation(format string, args ...any) *fault {
	return &fault{code: codeProtocol, text: fmt.Sprintf(format, args...)}
}

// Types of packets, as their first four bits have them (MQTT 5 section 2.1.2, 3.1.1 section 2.2.1).
const (
	packetConnect     = 1
	packetConnack     = 2
	packetPublish     = 3
	packetPuback      = 4
	packetPubrec      = 5
	packetPubrel      = 6
	packetPubcomp     = 7
	packetSubscribe   = 8
	packetSuback      = 9
	packetUnsubscribe = 10
	packetUnsuback    = 11
	packetPingreq     = 12
	packetPingresp    = 13
	packetDisconnect  = 14
	packetAuth        = 15
	willProperties    = 16 // no packet, but what stands in CONNECT before a will
)

// packetName is how MQTT writes a type.
func packetName(kind byte) string {
	return [17]string{
		"a packet of type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
		"SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH", "the will",
	}[kind]
}

// inspectHeader looks at a packet's fixed header: its type, its flags and its length.
func (s *sieve) inspectHeader(first byte, head, size int) *fault {
	kind, flags := first>>4, first&0x0f
	switch {
	case s.version == 0 && kind != packetConnect: // [MQTT-3.1.0-1]
		return violation("%s before CONNECT", packetName(kind))
	case s.version != 0 && kind == packetConnect: // [MQTT-3.1.0-2]
		return violation("a second CONNECT")
	case head == 0: // [MQTT-1.5.5-1]
		return malformed("%s: the remaining length has more than four bytes", packetName(kind))
	}
	want := byte(0)
	switch kind {
	case 0:
		return malformed("a packet of type 0")
	case packetConnack, packetSuback, packetUnsuback, packetPingresp:
		return violation("%s comes from servers only", packetName(kind))
	case packetAuth:
		if s.version < 5 {
			return malformed("a packet of type 15, which is of MQTT 5")
		}
	case packetPublish:
		if qos := flags >> 1 & 3; qos == 3 { // [MQTT-3.3.1-4]
			return malformed("PUBLISH has QoS 3")
		} else if qos == 0 && flags&8 != 0 { // [MQTT-3.3.1-2]
			return malformed("PUBLISH of QoS 0 has DUP set")
		}
		return nil
	case packetPubrel, packetSubscribe, packetUnsubscribe: // [MQTT-3.6.1-1, 3.8.1-1, 3.10.1-1]
		want = 2
	}
	if flags != want { // [MQTT-2.1.3-1]
		return malformed("%s has the flags %04b; %04b is reserved for it", packetName(kind), flags, want)
	}
	return nil
}

// inspect looks at what follows the fixed header, of a message without its payload. What it passes, the engine can decode.
func (s *sieve) inspect(first byte, body []byte) *fault {
	kind := first >> 4
	in := &fields{rest: body, kind: kind}
	v5 := s.version == 5
	switch kind {
	case packetConnect:
		s.inspectConnect(in)
	case packetPublish:
		in.publish(first>>1&3, v5)
	case packetPuback, packetPubrec, packetPubrel, packetPubcomp:
		in.acknowledgement(v5)
	case packetSubscribe:
		in.subscribe(v5)
	case packetUnsubscribe:
		in.unsubscribe(v5)
	case packetDisconnect:
		in.disconnect(v5)
	case packetAuth:
		in.wrong = violation("AUTH without an authentication method in CONNECT") // [MQTT-4.12.0-1]
	}
	if in.wrong == nil && len(in.rest) > 0 {
		in.wrong = malformed("%s: %d bytes too many", packetName(kind), len(in.rest))
	}
	return in.wrong
}

// fields reads a packet's fields one after the other. After the first fault there is nothing more.
type fields struct {
	kind  byte
	rest  []byte
	wrong *fault
}

func (in *fields) fail(f *fault) {
	if in.wrong == nil {
		in.wrong = f
	}
	in.rest = nil
}

func (in *fields) take(n int, what string) []byte {
	if in.wrong != nil || len(in.rest) < n {
		in.fail(malformed("%s ends in its %s", packetName(in.kind), what))
		return make([]byte, n)
	}
	b := in.rest[:n]
	in.rest = in.rest[n:]
	return b
}

func (in *fields) byte(what string) byte { return in.take(1, what)[0] }

func (in *fields) number(what string) uint16 { return binary.BigEndian.Uint16(in.take(2, what)) }

// data reads bytes behind their length.
func (in *fields) data(what string) []byte {
	n := int(in.number(what))
	if in.wrong != nil {
		return nil
	}
	return in.take(n, what)
}

// text reads a text: UTF-8 without U+0000 [MQTT-1.5.4-1, 1.5.4-2].
func (in *fields) text(what string) string {
	s := string(in.data(what))
	if in.wrong == nil && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
		in.fail(malformed("%s: its %s is not UTF-8 without U+0000", packetName(in.kind), what))
		return ""
	}
	return s
}

// packetID reads a packet identifier [MQTT-2.2.1-3].
func (in *fields) packetID() {
	if in.number("packet identifier") == 0 && in.wrong == nil {
		in.fail(violation("%s has the packet identifier 0", packetName(in.kind)))
	}
}

// inspectConnect looks at a CONNECT (MQTT 5 section 3.1) and learns the version.
func (s *sieve) inspectConnect(in *fields) {
	name, level := string(in.data("protocol name")), in.byte("protocol version")
	if in.wrong != nil {
		return
	}
	switch {
	case name != "MQTT" && name != "MQIsdp": // [MQTT-3.1.2-1]
		in.fail(malformed("the protocol's name is %.20q", name))
		return
	case name == "MQIsdp" && level == 3:
		s.version = 4 // as good as 3.1.1
	case name == "MQTT" && (level == 4 || level == 5):
		s.version = level
	default: // [MQTT-3.1.2-2]
		s.version = min(level, 5)
		in.fail(&fault{code: codeVersion, text: fmt.Sprintf("protocol version %d; 4 (MQTT 3.1.1) and 5 are spoken here", level)})
		return
	}
	flags := in.byte("flags")
	in.number("keep alive")
	willFlag, willQoS, username, password := flags&4 != 0, flags>>3&3, flags&0x80 != 0, flags&0x40 != 0
	switch {
	case in.wrong != nil:
		return
	case flags&1 != 0: // [MQTT-3.1.2-3]
		in.fail(malformed("CONNECT has the reserved flag set"))
	case !willFlag && flags&0x38 != 0: // [MQTT-3.1.2-11, 3.1.2-13]
		in.fail(malformed("CONNECT has a will's flags and no will"))
	case willQoS == 3: // [MQTT-3.1.2-12]
		in.fail(malformed("CONNECT has a will of QoS 3"))
	case s.version < 5 && password && !username: // [MQTT-3.1.2-22] of 3.1.1
		in.fail(malformed("CONNECT has a password and no user name"))
	}
	if s.version == 5 {
		in.properties(packetConnect)
	}
	in.text("client identifier")
	if willFlag {
		if s.version == 5 {
			in.properties(willProperties)
		}
		if topic := in.text("will topic"); in.wrong == nil && (topic == "" || strings.ContainsAny(topic, "+#")) {
			in.fail(malformed("the will's topic is empty or holds a wildcard"))
		}
		in.data("will payload")
	}
	if username {
		in.text("user name")
	}
	if password {
		in.data("password")
	}
}

// publish looks at what stands before a message's payload (MQTT 5 section 3.3).
func (in *fields) publish(qos byte, v5 bool) {
	topic := in.text("topic")
	if in.wrong == nil && strings.ContainsAny(topic, "+#") { // [MQTT-3.3.2-2]
		in.fail(malformed("PUBLISH: the topic holds a wildcard, + or #"))
	}
	if qos > 0 {
		in.packetID()
	}
	alias := false
	if v5 {
		alias = slices.Contains(in.properties(packetPublish), propertyTopicAlias)
	}
	if in.wrong == nil && topic == "" && !alias { // [MQTT-4.7.3-1]
		in.fail(violation("PUBLISH has neither a topic nor an alias for one"))
	}
}

// acknowledgement looks at a PUBACK and what is alike (MQTT 5 section 3.4).
func (in *fields) acknowledgement(v5 bool) {
	in.packetID()
	if !v5 || len(in.rest) == 0 {
		return
	}
	code := in.byte("reason code")
	allowed := []byte{0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
	if in.kind == packetPubrel || in.kind == packetPubcomp {
		allowed = []byte{0, 0x92}
	}
	if !slices.Contains(allowed, code) {
		in.fail(malformed("%s has the reason code 0x%02X", packetName(in.kind), code))
	}
	if len(in.rest) > 0 {
		in.properties(in.kind)
	}
}

// subscribe looks at a SUBSCRIBE (MQTT 5 section 3.8). What is wrong with a filter, SUBACK says.
func (in *fields) subscribe(v5 bool) {
	in.packetID()
	if v5 {
		in.properties(packetSubscribe)
	}
	if in.wrong == nil && len(in.rest) == 0 { // [MQTT-3.8.3-2]
		in.fail(violation("SUBSCRIBE without a topic filter"))
	}
	for in.wrong == nil && len(in.rest) > 0 {
		filter := in.text("topic filter")
		options := in.byte("subscription options")
		reserved := byte(0xfc)
		if v5 {
			reserved = 0xc0
		}
		switch {
		case in.wrong != nil:
		case options&reserved != 0: // [MQTT-3.8.3-5]
			in.fail(malformed("SUBSCRIBE has reserved bits set in the options 0x%02X", options))
		case options&3 == 3: // [MQTT-3.8.3-4] of 3.1.1
			in.fail(malformed("SUBSCRIBE asks for QoS 3"))
		case options>>4&3 == 3:
			in.fail(violation("SUBSCRIBE has the retain handling 3"))
		case options&4 != 0 && strings.HasPrefix(filter, "$share/"): // [MQTT-3.8.3-4]
			in.fail(violation("SUBSCRIBE has no-local on a shared subscription"))
		}
	}
}

// unsubscribe looks at an UNSUBSCRIBE (MQTT 5 section 3.10).
func (in *fields) unsubscribe(v5 bool) {
	in.packetID()
	if v5 {
		in.properties(packetUnsubscribe)
	}
	if in.wrong == nil && len(in.rest) == 0 { // [MQTT-3.10.3-2]
		in.fail(violation("UNSUBSCRIBE without a topic filter"))
	}
	for in.wrong == nil && len(in.rest) > 0 {
		in.text("topic filter")
	}
}

// disconnect looks at a DISCONNECT (MQTT 5 section 3.14).
func (in *fields) disconnect(v5 bool) {
	if !v5 || len(in.rest) == 0 {
		return
	}
	code := in.byte("reason code")
	if !slices.Contains([]byte{0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}, code) {
		in.fail(malformed("DISCONNECT has the reason code 0x%02X", code))
	}
	if len(in.rest) > 0 {
		in.properties(packetDisconnect)
	}
}

// refusedConnect is the CONNACK that answers a CONNECT at fault; nil: the connection is closed without one, as MQTT 3.1.1
// has it where it is not about the version [MQTT-3.1.4-1].
func (s *sieve) refusedConnect(f *fault) []byte {
	switch {
	case s.version == 5:
		text := f.text
		body := binary.AppendUvarint([]byte{0, byte(f.code)}, uint64(3+len(text)))
		body = append(append(body, propertyReason, byte(len(text)>>8), byte(len(text))), text...)
		return append(binary.AppendUvarint([]byte{packetConnack << 4}, uint64(len(body))), body...)
	case f.code == codeVersion:
		return []byte{packetConnack << 4, 2, 0, connack311(f.code)}
	}
	return nil
}
