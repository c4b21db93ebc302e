package bridge

import "time"

// engine is what the broker needs of an MQTT implementation. It is kept this small so that another can take its place;
// the tests of this package hold whatever stands behind it.
type engine interface {
	// serve speaks MQTT on c and returns when the connection has ended.
	serve(c *conn) error
	// close ends all housekeeping; connections have ended before.
	close()
}

// rules is what an engine asks of the broker. All calls about one client come from the goroutine that serves it.
type rules interface {
	// admit decides about a CONNECT. After nil, c.device is set.
	admit(c *client, hello connect) *refusal
	// continues reports whether a kept session is one of the device as it is registered now, and not of one of its name
	// that was deleted.
	continues(c *client, id string) bool
	// began tells, before CONNACK, which session the connection has: id is the device's and, behind a slash, the client
	// id. resumes says that it is one that there was already.
	began(c *client, id string, resumes bool)
	// established tells that CONNACK went out; from now on p can be used.
	established(c *client, p peer)
	// forgotten tells that a session has ended; last is the connection that it ended with, nil: whichever has it.
	forgotten(id string, last *client)
	// packet tells that the device sent something.
	packet(c *client)
	// published takes a PUBLISH and returns when the next may be read. It is acknowledged by peer.acknowledge, later;
	// acknowledged is false where it never is on its own account.
	published(c *client, m message) (acknowledged bool)
	// subscribing decides about one topic filter.
	subscribing(c *client, filter string) *refusal
	// tooMany refuses one that is beyond the session's bound.
	tooMany(c *client, filter string) *refusal
	// granted tells of the filters that are, before SUBACK goes out, and subscribed that it did.
	granted(c *client, all []subscription)
	subscribed(c *client)
	unsubscribed(id string, filters []string)
	// acknowledged tells that a QoS 1 message of ours reached the device.
	acknowledged(c *client, packetID uint16)
}

// connect is a CONNECT packet.
type connect struct {
	username string
	password string
	will     *will
}

// peer is a connected device as the engine offers it. Its methods may be called from any goroutine.
type peer interface {
	// granted returns the highest QoS with which the device subscribed to its topic about s, and the subscription
	// identifiers; ok is false where it did not subscribe.
	granted(s subject) (qos byte, identifiers []int, ok bool)
	// grantedTopic is granted of any topic.
	grantedTopic(topic string) (qos byte, identifiers []int, ok bool)
	// write sends a message and blocks until it is written or the write's deadline has passed.
	write(out publication) error
	// acknowledge sends PUBACKs and PUBRECs, as write does. A PUBREC that takes its message is kept until PUBREL.
	acknowledge(all []acknowledgement) error
	// disconnect sends DISCONNECT where the protocol has it and closes the connection.
	disconnect(code reasonCode, reason string)
	// limits returns what the device takes: bytes of a packet (0: any), QoS 1 messages in flight, and whether it
	// understands message expiry.
	limits() (maxPacket int, inflight int, expiry bool)
}

// publication is one PUBLISH on its way down.
type publication struct {
	topic       string
	payload     []byte
	qos         byte
	packetID    uint16 // with QoS 1
	expiry      time.Duration
	identifiers []int
	kind        kind
	then        *publication // of the same command; nil: none
	sending     *sending     // of the external broker: the command that it is; nil: none

	response    string // topic for the answer to a command; MQTT 5 tells the device
	correlation []byte // the command's id, beside the one in the payload

	// Of what other devices have published alone; nothing of the hub's own is retained or sent again.
	retain, dup bool
	extras      *extras
}

// kind is what a publication is.
type kind byte

const (
	kindCommand kind = iota // or another word of the hub's own
	kindState               // a desired state
	kindLetter              // a message of another device
)
