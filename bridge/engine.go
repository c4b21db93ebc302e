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
	// established tells that CONNACK went out; from now on p can be used.
	established(c *client, p peer)
	// packet tells that the device sent something.
	packet(c *client)
	// published decides about a PUBLISH and returns when it may be acknowledged: nil after the fsync, a *refusal for a
	// message that will never be taken, any other error when there may be no acknowledgement at all.
	published(c *client, m message) error
	// settled tells that what published decided about is done with, acknowledgement and all; it returns when the next
	// message may be read.
	settled(c *client)
	// subscribed tells that the device's subscriptions have changed.
	subscribed(c *client)
	// acknowledged tells that a QoS 1 command reached the device.
	acknowledged(c *client, packetID uint16)
}

// connect is a CONNECT packet.
type connect struct {
	username string
	password string
	will     *message
}

// peer is a connected device as the engine offers it. Its methods may be called from any goroutine.
type peer interface {
	// granted returns the highest QoS with which the device subscribed to its topic about s, and the subscription
	// identifiers; ok is false where it did not subscribe.
	granted(s subject) (qos byte, identifiers []int, ok bool)
	// write sends a message and blocks until it is written or the write's deadline has passed.
	write(out publication) error
	// disconnect sends DISCONNECT where the protocol has it and closes the connection.
	disconnect(code reasonCode, reason string)
	// limits returns what the device takes: bytes of a packet (0: any), QoS 1 messages in flight, and whether it
	// understands message expiry.
	limits() (maxPacket int, inflight int, expiry bool)
}

// publication is one PUBLISH on its way down. It is never retained.
type publication struct {
	topic       string
	payload     []byte
	qos         byte
	packetID    uint16 // with QoS 1
	expiry      time.Duration
	identifiers []int
	state       bool         // a desired state, and no command
	then        *publication // of the same command; nil: none

	response    string // topic for the answer to a command; MQTT 5 tells the device
	correlation []byte // the command's id, beside the one in the payload
}
