package bridge

import (
	"encoding/binary"
	"slices"
	"strings"
)

// Properties that are named elsewhere (MQTT 5 section 2.2.2.2).
const (
	propertyPayloadFormat  = 1
	propertyExpiry         = 2
	propertyResponseTopic  = 8
	propertySubscriptionID = 11
	propertyAuthMethod     = 21
	propertyAuthData       = 22
	propertyProblemInfo    = 23
	propertyResponseInfo   = 25
	propertyReason         = 31
	propertyReceiveMaximum = 33
	propertyTopicAlias     = 35
	propertyUser           = 38
	propertyMaximumPacket  = 39
)

// propertyRule says how a property is written and where a client may send it.
type propertyRule struct {
	form    propertyForm
	allowed []byte // packets
}

type propertyForm byte

const (
	formByte propertyForm = iota + 1
	formTwo
	formFour
	formVariable
	formData
	formText
	formPair
)

func propertyRuleOf(id byte) propertyRule {
	message := []byte{packetPublish, willProperties}
	switch id {
	case propertyPayloadFormat:
		return propertyRule{formByte, message}
	case propertyExpiry:
		return propertyRule{formFour, message}
	case 3, propertyResponseTopic: // content type
		return propertyRule{formText, message}
	case 9: // correlation data
		return propertyRule{formData, message}
	case propertySubscriptionID:
		return propertyRule{formVariable, []byte{packetSubscribe}} // and PUBLISH, from servers [MQTT-3.3.4-6]
	case 17: // session expiry interval
		return propertyRule{formFour, []byte{packetConnect, packetDisconnect}}
	case propertyAuthMethod:
		return propertyRule{formText, []byte{packetConnect}}
	case propertyAuthData:
		return propertyRule{formData, []byte{packetConnect}}
	case propertyProblemInfo, propertyResponseInfo:
		return propertyRule{formByte, []byte{packetConnect}}
	case 24: // will delay interval
		return propertyRule{formFour, []byte{willProperties}}
	case propertyReason:
		return propertyRule{formText, []byte{packetPuback, packetPubrec, packetPubrel, packetPubcomp, packetDisconnect}}
	case propertyReceiveMaximum, 34: // topic alias maximum
		return propertyRule{formTwo, []byte{packetConnect}}
	case propertyTopicAlias:
		return propertyRule{formTwo, []byte{packetPublish}}
	case propertyUser:
		return propertyRule{formPair, []byte{
			packetConnect, packetPublish, packetPuback, packetPubrec, packetPubrel, packetPubcomp,
			packetSubscribe, packetUnsubscribe, packetDisconnect, willProperties,
		}}
	case propertyMaximumPacket:
		return propertyRule{formFour, []byte{packetConnect}}
	}
	return propertyRule{}
}

// properties reads the properties of a packet and returns their ids.
func (in *fields) properties(of byte) (ids []byte) {
	n, size := binary.Uvarint(in.rest[:min(4, len(in.rest))])
	if in.wrong != nil || size <= 0 || n > uint64(len(in.rest)-size) {
		in.fail(malformed("%s ends in its properties", packetName(of)))
		return nil
	}
	p := &fields{kind: of, rest: in.rest[size : size+int(n)]}
	in.rest = in.rest[size+int(n):]
	for p.wrong == nil && len(p.rest) > 0 {
		id := p.rest[0]
		p.rest = p.rest[1:]
		if slices.Contains(ids, id) && id != propertyUser {
			p.fail(violation("%s has the property %d twice", packetName(of), id))
			break
		}
		ids = append(ids, id)
		p.property(id)
	}
	if p.wrong == nil && slices.Contains(ids, propertyAuthData) && !slices.Contains(ids, propertyAuthMethod) {
		p.fail(violation("CONNECT has authentication data and no method"))
	}
	if p.wrong != nil {
		in.fail(p.wrong)
	}
	return ids
}

// property reads one property, and holds it to the values that it can have.
func (in *fields) property(id byte) {
	rule := propertyRuleOf(id)
	if rule.form == 0 {
		in.fail(malformed("%s has a property %d, which there is not", packetName(in.kind), id))
		return
	}
	if !slices.Contains(rule.allowed, in.kind) {
		in.fail(violation("%s has the property %d, which is not for it", packetName(in.kind), id))
		return
	}
	var value uint64
	var text string
	switch rule.form {
	case formByte:
		value = uint64(in.byte("properties"))
	case formTwo:
		value = uint64(in.number("properties"))
	case formFour:
		value = uint64(binary.BigEndian.Uint32(in.take(4, "properties")))
	case formVariable:
		n, size := binary.Uvarint(in.rest[:min(4, len(in.rest))])
		if size <= 0 {
			in.fail(malformed("%s ends in its properties", packetName(in.kind)))
			return
		}
		value, in.rest = n, in.rest[size:]
	case formData:
		in.data("properties")
	case formText:
		text = in.text("properties")
	case formPair:
		in.text("properties")
		in.text("properties")
	}
	if in.wrong != nil {
		return
	}
	switch id {
	case propertyPayloadFormat, propertyProblemInfo, propertyResponseInfo:
		if value > 1 {
			in.fail(violation("%s: the property %d is 0 or 1, not %d", packetName(in.kind), id, value))
		}
	case propertySubscriptionID, propertyReceiveMaximum, propertyMaximumPacket:
		if value == 0 { // sections 3.8.2.1.2, 3.1.2.11.3 and 3.1.2.11.4
			in.fail(violation("%s: the property %d must not be 0", packetName(in.kind), id))
		}
	case propertyTopicAlias:
		if value == 0 { // [MQTT-3.3.2-8]
			in.fail(&fault{code: codeTopicAlias, text: "PUBLISH has the topic alias 0"})
		}
	case propertyResponseTopic:
		if text == "" || strings.ContainsAny(text, "+#") { // [MQTT-3.3.2-14]
			in.fail(violation("%s: the response topic is empty or holds a wildcard", packetName(in.kind)))
		}
	case propertyAuthMethod: // none is spoken here [MQTT-4.12.0-1]
		in.fail(&fault{code: codeAuthMethod, text: "authentication by AUTH is not supported: use a certificate, or the device's id and its token"})
	}
}
