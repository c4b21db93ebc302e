package bridge

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mochi is the engine made of github.com/mochi-mqtt/server. Our listeners, acknowledgements, sending and sessions' bounds
// take the place of its own; it reads and writes packets, keeps sessions, their subscriptions and what QoS 2 needs.
type mochi struct {
	server *mqtt.Server
	rules  rules
	cfg    BrokerConfig

	mu   sync.Mutex
	kept map[string][]string // device: its client ids as mochi knows them, the oldest first
}

// longestReason bounds a reason string, in bytes.
const longestReason = 8 << 10

// sysInterval is how often mochi publishes $SYS topics, which no device may read; it stops the world for it.
const sysInterval = 24 * time.Hour

func newMochi(cfg BrokerConfig, r rules, log *slog.Logger) (*mochi, error) {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumClients = math.MaxInt64
	capabilities.MaximumMessageExpiryInterval = int64(cfg.SessionExpiry / time.Second)
	capabilities.MaximumClientWritesPending = commandQueue // its own queue is not used, but made for each client
	capabilities.MaximumSessionExpiryInterval = uint32(cfg.SessionExpiry / time.Second)
	capabilities.MaximumPacketSize = 0 // each device has its own, which its conn holds
	capabilities.ReceiveMaximum = receiveMaximum
	capabilities.MaximumInflight = receiveMaximum
	capabilities.TopicAliasMaximum = 0 // they are resolved before it looks, for its checks would see an empty topic
	capabilities.SharedSubAvailable = 0
	// Retained messages are not kept (all are ignored), yet not refused: mochi would refuse the CONNECT of a device with
	// a retained will, which much firmware has.
	capabilities.RetainAvailable = 1
	capabilities.Compatibilities.NoInheritedPropertiesOnAck = true

	m := &mochi{rules: r, cfg: cfg, kept: map[string][]string{}}
	m.server = mqtt.New(&mqtt.Options{
		Capabilities:             capabilities,
		ClientNetWriteBufferSize: 1 << 10,
		ClientNetReadBufferSize:  1 << 10,
		Logger:                   quietLog(log),
		SysTopicResendInterval:   int64(sysInterval / time.Second),
	})
	if err := m.server.AddHook(&mochiHook{mochi: m}, nil); err != nil {
		return nil, err
	}
	if err := m.server.Serve(); err != nil { // no listeners: only its housekeeping
		return nil, fmt.Errorf("start mochi: %w", err)
	}
	return m, nil
}

func (m *mochi) serve(c *conn) error {
	return m.server.EstablishConnection(c.client.origin.Transport, c)
}

func (m *mochi) close() { _ = m.server.Close() }

// remember keeps the newest sessions of a device and drops the others, for mochi bounds how long sessions are kept and
// not how many.
func (m *mochi) remember(device, id string) {
	m.mu.Lock()
	ids := m.kept[device]
	for i, known := range ids {
		if known == id {
			ids = append(ids[:i], ids[i+1:]...)
			break
		}
	}
	ids = append(ids, id)
	var drop []string
	if len(ids) > keptSessions {
		drop, ids = ids[:len(ids)-keptSessions], append([]string(nil), ids[len(ids)-keptSessions:]...)
	}
	m.kept[device] = ids
	m.mu.Unlock()
	for _, old := range drop {
		m.rules.forgotten(old, nil)
		if cl, ok := m.server.Clients.Get(old); ok {
			m.drop(cl)
		}
	}
}

// drop ends a client and what mochi keeps of its session.
func (m *mochi) drop(cl *mqtt.Client) {
	m.server.UnsubscribeClient(cl)
	cl.ClearInflights()
	m.server.Clients.Delete(cl.ID)
	// The error is the code itself, or tells that the connection was gone already.
	_ = m.server.DisconnectClient(cl, packets.ErrSessionTakenOver)
}

// forget is called when mochi dropped a session.
func (m *mochi) forget(id string, last *client) {
	m.rules.forgotten(id, last)
	device, _, _ := strings.Cut(id, "/")
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := m.kept[device]
	for i, known := range ids {
		if known == id {
			ids = append(ids[:i], ids[i+1:]...)
			break
		}
	}
	if len(ids) == 0 {
		delete(m.kept, device)
		return
	}
	m.kept[device] = ids
}

// mochiPeer is a connected client of mochi.
type mochiPeer struct {
	mochi    *mochi
	client   *mqtt.Client
	inflight int // the device's Receive Maximum
}

func (p *mochiPeer) granted(s subject) (qos byte, identifiers []int, ok bool) {
	for filter, sub := range p.client.State.Subscriptions.GetAll() {
		if !ownTopic(filter) || !filterMatches(filter, s) {
			continue
		}
		ok = true
		qos = max(qos, sub.Qos)
		if sub.Identifier > 0 {
			identifiers = append(identifiers, sub.Identifier) // [MQTT-3.3.4-4]
		}
	}
	return qos, identifiers, ok
}

func (p *mochiPeer) grantedTopic(topic string) (qos byte, identifiers []int, ok bool) {
	for filter, sub := range p.client.State.Subscriptions.GetAll() {
		if !topicMatches(filter, topic) {
			continue
		}
		ok = true
		qos = max(qos, sub.Qos)
		if sub.Identifier > 0 {
			identifiers = append(identifiers, sub.Identifier)
		}
	}
	return qos, identifiers, ok
}

func (p *mochiPeer) write(out publication) error {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: out.qos, Retain: out.retain, Dup: out.dup && out.qos > 0},
		TopicName:   out.topic, Payload: out.payload, PacketID: out.packetID,
	}
	pk.Properties.SubscriptionIdentifier = out.identifiers
	pk.Properties.ResponseTopic, pk.Properties.CorrelationData = out.response, out.correlation // written in MQTT 5 only
	if e := out.extras; e != nil {
		pk.Properties.PayloadFormatFlag = e.text
		if e.text {
			pk.Properties.PayloadFormat = 1
		}
		pk.Properties.ContentType, pk.Properties.ResponseTopic, pk.Properties.CorrelationData = e.contentType, e.response, e.correlation
		for _, u := range e.user {
			pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: u.key, Val: u.value})
		}
	}
	if out.expiry > 0 {
		pk.Properties.MessageExpiryInterval = uint32(min(max(1, math.Ceil(out.expiry.Seconds())), math.MaxUint32))
	}
	return p.client.WritePacket(pk)
}

// acknowledge writes acknowledgements as one piece. mochi would write each alone, and leaves out a reason code below 0x80.
func (p *mochiPeer) acknowledge(all []acknowledgement) error {
	cl := p.client
	var out []byte
	for _, a := range all {
		kind := packets.Puback
		if a.qos == 2 {
			kind = packets.Pubrec
			if a.code < codeUnspecified || cl.Properties.ProtocolVersion < 5 { // the exchange goes on with PUBREL
				cl.State.Inflight.Set(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: a.packetID, Created: time.Now().Unix()})
			}
		}
		out = p.appendAck(out, kind, a)
	}
	cl.Lock()
	defer cl.Unlock()
	if _, err := cl.Net.Conn.Write(out); err != nil {
		return err
	}
	for _, a := range all {
		if cl.Properties.ProtocolVersion == 5 && (a.qos == 1 || a.code >= codeUnspecified) {
			cl.State.Inflight.IncreaseReceiveQuota()
		}
	}
	return nil
}

// appendAck appends a PUBACK or PUBREC (MQTT 5 sections 3.4 and 3.5). The reason is left out where the device does not
// want it, or takes no packet so large.
func (p *mochiPeer) appendAck(dst []byte, kind byte, a acknowledgement) []byte {
	props := &p.client.Properties
	if props.ProtocolVersion < 5 || a.code == 0 && a.reason == "" {
		return append(dst, kind<<4, 2, byte(a.packetID>>8), byte(a.packetID))
	}
	body := []byte{byte(a.packetID >> 8), byte(a.packetID), byte(a.code)}
	quiet := props.Props.RequestProblemInfoFlag && props.Props.RequestProblemInfo == 0
	if room := int(props.Props.MaximumPacketSize); a.reason != "" && !quiet && len(a.reason) <= longestReason && (room == 0 || len(a.reason)+16 <= room) {
		body = binary.AppendUvarint(body, uint64(3+len(a.reason)))
		body = append(body, packets.PropReasonString)
		body = binary.BigEndian.AppendUint16(body, uint16(len(a.reason)))
		body = append(body, a.reason...)
	}
	dst = append(dst, kind<<4)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

func (p *mochiPeer) disconnect(code reasonCode, reason string) {
	// The error is the code itself, or tells that the connection was gone already.
	_ = p.mochi.server.DisconnectClient(p.client, packets.Code{Code: byte(code), Reason: reason})
}

func (p *mochiPeer) limits() (maxPacket, inflight int, expiry bool) {
	return int(p.client.Properties.Props.MaximumPacketSize), p.inflight, p.client.Properties.ProtocolVersion == 5
}
