package bridge

import (
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/wire"
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
		mqtt.OnDisconnect, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnPublish, mqtt.OnClientExpired:
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
		hello.will = &message{topic: pk.Connect.WillTopic, payload: pk.Connect.WillPayload, qos: pk.Connect.WillQos, retained: pk.Connect.WillRetain}
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
func (h *mochiHook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c := clientOf(cl)
	if old, ok := h.mochi.server.Clients.Get(cl.ID); ok {
		if before := clientOf(old); before != nil {
			before.link.replaced()
		}
	}
	h.mochi.remember(c.device, cl.ID)
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

// OnACLCheck is asked for subscriptions (write false) with the filter as topic, and for messages. Messages are checked in
// OnPublish, which can refuse them in the right words.
func (h *mochiHook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if write {
		return true
	}
	c := clientOf(cl)
	return c != nil && filterAllowed(c.device, topic)
}

// OnPacketRead sees each packet first.
func (h *mochiHook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := clientOf(cl)
	h.mochi.rules.packet(c)
	switch pk.FixedHeader.Type {
	case packets.Publish:
		// mochi drops a message to $SYS without an acknowledgement; the device would send it for ever.
		if len(pk.TopicName) > 0 && pk.TopicName[0] == '$' {
			pk.TopicName = notATopic
		}
	case packets.Puback:
		h.mochi.rules.acknowledged(c, pk.PacketID)
	case packets.Disconnect:
		c.goodbye = pk.ReasonCode != packets.CodeDisconnectWillMessage.Code
		// mochi bounds the session's expiry in CONNECT and takes any in DISCONNECT.
		pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval, uint32(h.mochi.cfg.SessionExpiry/time.Second))
	}
	return pk, nil
}

// OnPublish returns when the message may be acknowledged. CodeSuccessIgnore makes mochi acknowledge it and do nothing
// else with it; ErrRejectPacket makes it do nothing at all. Any other error it would acknowledge like a success, or by
// PUBACK where QoS 2 wants PUBREC.
func (h *mochiHook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := clientOf(cl)
	err := h.mochi.rules.published(c, message{topic: pk.TopicName, payload: pk.Payload, qos: pk.FixedHeader.Qos, retained: pk.FixedHeader.Retain})
	if err == nil {
		return pk, packets.CodeSuccessIgnore
	}
	r, refused := errors.AsType[*refusal](err)
	switch {
	case !refused:
		if c.endReason == "" {
			c.endReason = "its message could not be made durable"
		}
		_ = h.mochi.server.DisconnectClient(cl, packets.Code{Code: byte(codeUnavailable), Reason: "the message could not be made durable; send it again"})
		return pk, packets.ErrRejectPacket
	case r.unacked && cl.Properties.ProtocolVersion < 5:
		return pk, packets.ErrRejectPacket
	case cl.Properties.ProtocolVersion == 5 && pk.FixedHeader.Qos > 0:
		ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID, ReasonCode: byte(r.code)}
		if pk.FixedHeader.Qos == 2 {
			ack.FixedHeader.Type = packets.Pubrec
		}
		ack.Properties.ReasonString = r.message
		if err := cl.WritePacket(ack); err != nil {
			cl.Stop(err)
		}
		return pk, packets.ErrRejectPacket
	}
	return pk, packets.CodeSuccessIgnore
}

// OnPacketProcessed tells the broker of subscriptions once they were acknowledged, and that a message is done with.
func (h *mochiHook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, err error) {
	switch {
	case err == nil && pk.FixedHeader.Type == packets.Subscribe:
		h.mochi.rules.subscribed(clientOf(cl))
	case pk.FixedHeader.Type == packets.Publish:
		h.mochi.rules.settled(clientOf(cl))
	}
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
		if v5 && pk.ReasonCode == 0 {
			pk.Properties.MaximumPacketSize = uint32(clientOf(cl).profile().Limits.MaxFrame + packetOverhead)
			pk.Properties.SharedSubAvailableFlag = true // and the value 0
		}
	case packets.Puback:
		tellSlowed(cl, &pk)
	case packets.Pubrec:
		tellSlowed(cl, &pk)
		// A message sent again before its PUBREL is answered as the first time [MQTT-4.3.3-10], not as an error that
		// would end its exchange on one side only.
		if pk.ReasonCode == packets.ErrPacketIdentifierInUse.Code {
			pk.ReasonCode, pk.Properties.ReasonString = 0, ""
		}
	}
	return pk
}

// tellSlowed says in the acknowledgement of MQTT 5 what hub.notice says elsewhere. It is written by the goroutine that
// serves the client, as all acknowledgements of messages are.
func tellSlowed(cl *mqtt.Client, pk *packets.Packet) {
	c := clientOf(cl)
	if c == nil || c.hold == nil || !c.hold.Tell || cl.Properties.ProtocolVersion != 5 || pk.Properties.ReasonString != "" {
		return
	}
	pk.ReasonCode = 0 // mochi has the QoS there, and leaves it out where nothing follows
	pk.Properties.ReasonString = wire.ReasonRateLimited + ": " + c.hold.Notice().Message
}

// OnDisconnect notes why mochi ended a connection.
func (h *mochiHook) OnDisconnect(cl *mqtt.Client, err error, expire bool) {
	c := clientOf(cl)
	if code, ok := errors.AsType[packets.Code](err); ok && c != nil && c.endReason == "" {
		c.endReason = code.Reason
	}
	if expire && !cl.IsTakenOver() {
		h.mochi.forget(cl.ID)
	}
}

// OnClientExpired comes when a session was kept for long enough.
func (h *mochiHook) OnClientExpired(cl *mqtt.Client) { h.mochi.forget(cl.ID) }
