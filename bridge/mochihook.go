package bridge

import (
	"errors"
	"fmt"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mochiHook is where mochi asks us. Besides carrying the broker's rules it mends what mochi 2.7.9 does otherwise than
// the protocol says; each such place says what.
type mochiHook struct {
	mqtt.HookBase
	mochi *mochi
}

// notATopic stands for a topic that mochi would drop without acknowledging it.
const notATopic = "$"

func (h *mochiHook) ID() string { return "hub" }

func (h *mochiHook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnDisconnect, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnPublish, mqtt.OnClientExpired,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribe, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

func clientOf(cl *mqtt.Client) *client {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.client
	}
	return nil // sessions without a connection
}

// OnConnect decides about the CONNECT. mochi sends no CONNACK after an error of this hook, so it is sent here.
func (h *mochiHook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := clientOf(cl)
	hello := connect{username: string(pk.Connect.Username), password: string(pk.Connect.Password)}
	if pk.Connect.WillFlag {
		hello.will = willOf(pk)
	}
	c.v5 = cl.Properties.ProtocolVersion == 5
	if r := h.mochi.rules.admit(c, hello); r != nil {
		code := packets.Code{Code: byte(r.code), Reason: r.message}
		if cl.Properties.ProtocolVersion < 5 {
			code.Code = connack311(r.code)
		}
		return errors.Join(r, h.mochi.server.SendConnack(cl, code, false, nil))
	}
	// Sessions are kept by this id: within the device's identity it is the device's choice, outside it means nothing. A
	// device id holds no slash.
	cl.ID = c.device + "/" + cl.ID
	// mochi would publish a will on any topic to whoever may read it, such as another device's commands.
	cl.Properties.Will = mqtt.Will{}
	h.boundKeepalive(cl)
	return nil
}

// willOf is a CONNECT's last will. A delay that is longer than the session is kept ends with the session.
func willOf(pk packets.Packet) *will {
	c := pk.Connect
	w := &will{message: message{topic: c.WillTopic, payload: c.WillPayload, qos: c.WillQos, retained: c.WillRetain, extras: extrasOf(c.WillProperties)}}
	w.delay = time.Duration(min(c.WillProperties.WillDelayInterval, pk.Properties.SessionExpiryInterval)) * time.Second
	return w
}

// extrasOf takes what goes with a message out of its properties; nil: nothing does.
func extrasOf(p packets.Properties) *extras {
	if p.MessageExpiryInterval == 0 && p.PayloadFormat == 0 && p.ContentType == "" && p.ResponseTopic == "" && p.CorrelationData == nil && p.User == nil {
		return nil
	}
	e := &extras{
		expiry: time.Duration(p.MessageExpiryInterval) * time.Second, text: p.PayloadFormat == 1,
		contentType: p.ContentType, response: p.ResponseTopic, correlation: p.CorrelationData,
	}
	for _, u := range p.User {
		e.user = append(e.user, userProperty{u.Key, u.Val})
	}
	return e
}

// boundKeepalive holds the keepalive to the operator's bound. MQTT 5 tells the device; an older one that stays silent for
// longer than one and a half times the bound is taken for dead, whatever it asked for.
func (h *mochiHook) boundKeepalive(cl *mqtt.Client) {
	longest := uint16(h.mochi.cfg.MaxKeepalive / time.Second)
	if k := cl.State.Keepalive; k == 0 || k > longest {
		cl.State.Keepalive = longest
		cl.State.ServerKeepalive = true
	}
}

// OnConnectAuthenticate follows OnConnect, which has decided.
func (h *mochiHook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnSessionEstablish comes before mochi looks for an older connection of the same client id.
func (h *mochiHook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	c := clientOf(cl)
	old, resumes := h.mochi.server.Clients.Get(cl.ID)
	if resumes {
		if before := clientOf(old); before != nil {
			before.link.replaced()
		}
		resumes = !pk.Connect.Clean && !endsWithConnection(old) && h.mochi.rules.continues(c, cl.ID)
		if !resumes { // mochi would go on with a session of MQTT 5 that ends with the connection it takes over
			h.mochi.server.UnsubscribeClient(old)
			old.ClearInflights()
		}
	}
	c.resumes = resumes
	h.mochi.rules.began(c, cl.ID, resumes)
	h.mochi.remember(c.device, cl.ID)
}

// endsWithConnection reports whether a client's session is not kept for longer than its connection.
func endsWithConnection(cl *mqtt.Client) bool {
	if cl.Properties.ProtocolVersion == 5 {
		return cl.Properties.Props.SessionExpiryInterval == 0
	}
	return cl.Properties.Clean
}

// OnSessionEstablished comes after CONNACK.
func (h *mochiHook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	inflight := int(cl.Properties.Props.ReceiveMaximum)
	if inflight == 0 {
		inflight = receiveMaximum
	}
	// With a send quota mochi looks for messages held back, and locks its table of messages in flight twice while doing
	// so, which deadlocks with its own housekeeping. Nothing is ever held back here: commands have a window of their own.
	cl.State.Inflight.ResetSendQuota(0)
	h.mochi.rules.established(clientOf(cl), &mochiPeer{mochi: h.mochi, client: cl, inflight: inflight})
}

// OnACLCheck is asked for subscriptions (write false) with the filter as topic, and for messages. Messages are judged
// later, where they can be refused in the right words, and subscriptions before, by OnSubscribe.
func (h *mochiHook) OnACLCheck(cl *mqtt.Client, filter string, write bool) bool {
	c := clientOf(cl)
	return write || c != nil && c.refusals[filter] == nil
}

// OnSubscribe judges the filters. QoS 2 is not spoken to devices: the most that is granted is 1 [MQTT-3.8.4-7]. mochi
// answers a packet id that a message of QoS 2 has until its PUBREL with 0x91; nothing of such a packet is judged.
func (h *mochiHook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := clientOf(cl)
	c.refusals = map[string]*refusal{}
	count := cl.State.Subscriptions.Len()
	var taken *refusal
	if _, inUse := cl.State.Inflight.Get(pk.PacketID); inUse {
		taken = &refusal{code: codePacketIDInUse, message: "subscription: the packet id is in use, by a message of QoS 2 without PUBREL"}
	}
	for i := range pk.Filters {
		f := &pk.Filters[i]
		f.Qos = min(f.Qos, 1)
		f.Filter = strings.Clone(f.Filter) // it outlives the packet, whose bytes mochi's strings are
		_, known := cl.State.Subscriptions.Get(f.Filter)
		if known && f.RetainHandling == 1 { // nothing at a SUBSCRIBE that is not the first
			f.RetainHandling = 2
		}
		if _, twice := c.refusals[f.Filter]; twice {
			continue
		}
		r := taken
		if r == nil {
			r = h.mochi.rules.subscribing(c, f.Filter)
		}
		if !known && r == nil {
			if count++; count > h.mochi.cfg.MaxSubscriptions {
				r = h.mochi.rules.tooMany(c, f.Filter)
			}
		}
		c.refusals[f.Filter] = r
	}
	return pk
}

// OnSubscribed puts the codes of refused filters into SUBACK, which bears this very slice; MQTT 3.1.1 has one. What is
// granted is what SUBACK says is, for mochi has its own reasons to refuse. Of a filter that is there more than once the
// last counts, as if they had come one by one [MQTT-3.8.4-5].
func (h *mochiHook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c := clientOf(cl)
	last := make(map[string]int, len(pk.Filters))
	for i, f := range pk.Filters {
		last[f.Filter] = i
		v5 := cl.Properties.ProtocolVersion == 5
		if r := c.refusals[f.Filter]; r != nil && v5 {
			codes[i] = byte(r.code)
		} else if codes[i] >= byte(codeUnspecified) && !v5 {
			codes[i] = byte(codeUnspecified) // [MQTT-3.9.3-2]
		}
	}
	var granted []subscription
	for i, f := range pk.Filters {
		if codes[i] < byte(codeUnspecified) && last[f.Filter] == i {
			granted = append(granted, subscription{
				filter: f.Filter, qos: f.Qos, identifier: f.Identifier, noLocal: f.NoLocal, asPublished: f.RetainAsPublished, withoutRetained: f.RetainHandling == 2,
			})
		}
	}
	h.mochi.rules.granted(c, granted)
}

// OnUnsubscribe notes which filters there are: mochi takes the beginning of another one for one too.
func (h *mochiHook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := clientOf(cl)
	c.strangers = make([]bool, len(pk.Filters))
	for i, f := range pk.Filters {
		_, known := cl.State.Subscriptions.Get(f.Filter)
		c.strangers[i] = !known
	}
	return pk
}

// OnUnsubscribed comes for UNSUBSCRIBE, and when a session ends. What mochi has still is left as it was: it has answered
// that the packet id is in use. MQTT 3.1.1 has no word for that, its UNSUBACK says that all are gone.
func (h *mochiHook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	var filters []string
	for _, f := range pk.Filters {
		if _, left := cl.State.Subscriptions.Get(f.Filter); left {
			if cl.Properties.ProtocolVersion == 5 {
				continue
			}
			h.mochi.server.Topics.Unsubscribe(f.Filter, cl.ID)
			cl.State.Subscriptions.Delete(f.Filter)
		}
		filters = append(filters, f.Filter)
	}
	h.mochi.rules.unsubscribed(cl.ID, filters)
}

// OnPacketRead sees each packet first.
func (h *mochiHook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := clientOf(cl)
	h.mochi.rules.packet(c)
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return h.readPublish(cl, pk)
	case packets.Puback:
		h.mochi.rules.acknowledged(c, pk.PacketID)
		pk.PacketID = 0 // mochi knows none of ours, and would take it for one of the device's own of QoS 2
	case packets.Pubrel:
		c.mailbox.takings.released(pk.PacketID)
	case packets.Disconnect:
		c.goodbye = pk.ReasonCode != packets.CodeDisconnectWillMessage.Code
		// mochi bounds the session's expiry in CONNECT and takes any in DISCONNECT.
		pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval, uint32(h.mochi.cfg.SessionExpiry/time.Second))
	}
	return pk, nil
}

// readPublish resolves a topic alias before mochi looks at the topic.
func (h *mochiHook) readPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := clientOf(cl)
	if p := &pk.Properties; p.TopicAliasFlag {
		topic, known := c.aliases[p.TopicAlias]
		switch {
		case p.TopicAlias == 0 || p.TopicAlias > topicAliases: // [MQTT-3.3.2-8, 3.3.2-9]
			return pk, h.mochi.server.DisconnectClient(cl, packets.Code{Code: byte(codeTopicAlias), Reason: fmt.Sprintf("topic alias %d: from 1 to %d", p.TopicAlias, topicAliases)})
		case pk.TopicName != "":
			if c.aliases == nil {
				c.aliases = map[uint16]string{}
			}
			c.aliases[p.TopicAlias] = strings.Clone(pk.TopicName) // which is bytes of the packet, and would keep all of it
		case !known:
			return pk, h.mochi.server.DisconnectClient(cl, packets.Code{Code: byte(codeProtocol), Reason: fmt.Sprintf("topic alias %d stands for no topic yet", p.TopicAlias)})
		default:
			pk.TopicName = topic
		}
		p.TopicAlias, p.TopicAliasFlag = 0, false
	}
	// mochi drops a message to $SYS without an acknowledgement; the device would send it for ever.
	if len(pk.TopicName) > 0 && pk.TopicName[0] == '$' {
		pk.TopicName = notATopic
	}
	return pk, nil
}

// OnPublish hands the message on. ErrRejectPacket makes mochi do nothing else with it: it would acknowledge it now.
func (h *mochiHook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Qos == 2 && cl.State.Inflight.Len() >= receiveMaximum {
		// mochi counts with MQTT 5 only, and anew for each connection; what waits for PUBREL stays with the session.
		clientOf(cl).endReason = packets.ErrReceiveMaximum.Reason
		_ = h.mochi.server.DisconnectClient(cl, packets.ErrReceiveMaximum) // the error is the code itself
		return pk, packets.ErrRejectPacket
	}
	counted := pk.FixedHeader.Qos > 0 && cl.Properties.ProtocolVersion == 5 // against Receive Maximum [MQTT-3.3.4-7]
	if counted {
		cl.State.Inflight.DecreaseReceiveQuota()
	}
	m := message{
		topic: pk.TopicName, payload: pk.Payload, qos: pk.FixedHeader.Qos, retained: pk.FixedHeader.Retain,
		packetID: pk.PacketID, extras: extrasOf(pk.Properties),
	}
	if !h.mochi.rules.published(clientOf(cl), m) && counted {
		cl.State.Inflight.IncreaseReceiveQuota()
	}
	return pk, packets.ErrRejectPacket
}

// OnPacketProcessed tells the broker of subscriptions once they were acknowledged.
func (h *mochiHook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, err error) {
	if err != nil || pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	c := clientOf(cl)
	c.refusals = nil
	h.mochi.rules.subscribed(c)
}

// OnPacketEncode mends packets on their way out.
func (h *mochiHook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	v5 := cl.Properties.ProtocolVersion == 5
	switch pk.FixedHeader.Type {
	case packets.Disconnect:
		if !v5 {
			pk.FixedHeader.Type = packets.Reserved // older servers send no DISCONNECT; this one is not written
		}
	case packets.Connack:
		if !v5 && pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
			pk.ReasonCode = connack311(reasonCode(pk.ReasonCode))
		}
		if pk.SessionPresent && !clientOf(cl).resumes {
			// mochi goes on with what the session before had of QoS 2, which a commit may have added to since that was
			// cleared: a message of the new session would be taken for one that has come already.
			pk.SessionPresent = false
			cl.ClearInflights()
		}
		if v5 && pk.ReasonCode == 0 {
			pk.Properties.MaximumPacketSize = uint32(clientOf(cl).profile().Limits.MaxFrame + packetOverhead)
			pk.Properties.SharedSubAvailableFlag = true // and the value 0
			pk.Properties.TopicAliasMaximum = topicAliases
		}
	case packets.Suback:
		for _, r := range clientOf(cl).refusals {
			if r != nil {
				pk.Properties.ReasonString = r.message
			}
		}
	case packets.Unsuback:
		for i, stranger := range clientOf(cl).strangers {
			if stranger && pk.ReasonCodes[i] == 0 {
				pk.ReasonCodes[i] = packets.CodeNoSubscriptionExisted.Code // [MQTT-3.11.3-1]
			}
		}
	case packets.Pubrec:
		// A message sent again before its PUBREL is answered as the first time [MQTT-4.3.3-10], not as an error that
		// would end its exchange on one side only.
		if pk.ReasonCode == packets.ErrPacketIdentifierInUse.Code {
			pk.ReasonCode, pk.Properties.ReasonString = 0, ""
		}
	}
	return pk
}

// OnDisconnect notes why mochi ended a connection.
func (h *mochiHook) OnDisconnect(cl *mqtt.Client, err error, expire bool) {
	c := clientOf(cl)
	if code, ok := errors.AsType[packets.Code](err); ok && c != nil && c.endReason == "" {
		c.endReason = code.Reason
	}
	if expire && !cl.IsTakenOver() {
		h.mochi.forget(cl.ID, c)
	}
}

// OnClientExpired comes when a session was kept for long enough. mochi leaves its subscriptions where they are.
func (h *mochiHook) OnClientExpired(cl *mqtt.Client) {
	h.mochi.server.UnsubscribeClient(cl)
	h.mochi.forget(cl.ID, clientOf(cl))
}
