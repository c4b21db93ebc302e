// Package bridge makes an MQTT device the same to everyone else as a device on the hub's own connection: listed, read
// and commanded like any other.
//
// It owns the embedded broker ([Broker]: MQTT 3.1.1 and 5 on mochi-mqtt) and the clients of external brokers
// ([External]: MQTT 3.1.1 by paho), and the words of MQTT's topics. It does not own what a payload means (wire), who may
// connect and who is connected (devices), or when a reading is safe (ingest). From one device to another it routes, and
// retains, only what grants of the configuration allow.
//
// # What an acknowledgement says
//
// A PUBACK or PUBREC follows the fsync of the readings that it acknowledges. Where the hub cannot make them safe, it
// sends none and ends the connection, so that the device sends them again. What the hub refuses (not usable, a topic of
// somebody else, no time of its own in a retained message) is counted with its reason; an MQTT 5 device reads the reason
// in the acknowledgement. MQTT 3.1.1 has no negative acknowledgement (its section 3.3.5 leaves a positive one or the end
// of the connection), and a device that is never acknowledged sends the same message again after each reconnection, for
// ever: so there a refused message is acknowledged too, and the counters and the device's page say that it was refused.
//
// # Overload
//
// Telemetry waits: the embedded broker stops reading a device's socket while 256 of its messages wait for their commit, or
// the journal has no room; an external broker's messages wait in a window, bounded by number and by bytes, of what is not
// acknowledged, and beyond it the socket is not read. Pings go out all the same, and as nobody reads the answers, the
// broker's silence ends nothing.
// Commands never wait: a full queue refuses them at once.
//
// # Files in reading order
//
// bridge.go (what the package asks of others), config.go, topics.go, intake.go (a payload on its way to the journal);
//
// the embedded broker: broker.go, listen.go, entry.go (who is let in), enrol.go (who comes by an enrolment key),
// postpone.go (devices that come too fast), conn.go, sieve.go (what is too large), inspect.go and properties.go (what is
// not as the protocol has it), client.go (one connection), publishing.go (what a device says, and on which topics it may),
// pubacks.go (when that is acknowledged), taken.go (QoS 2), pace.go (what is too fast), subscribing.go, link.go (commands down), grants.go
// and filters.go (the topics that devices share), exchange.go (from device to device), mailbox.go (what waits for a
// session), letters.go (how it gets there), retained.go, wills.go, response.go (what comes of commands), state.go (states
// up and down), renewing.go (new credentials), reason.go, engine.go (what is asked of an MQTT implementation), mochi.go and
// mochihook.go (the one that is used, and what has to be mended in it);
//
// external brokers: external.go (the client of one), externalconfig.go, credentials.go (what it shows and trusts), dial.go,
// inlet.go (what paho is given to read), line.go (one connection), window.go, screen.go (what is no message of a device),
// receipts.go (QoS 2), echoes.go (the hub's own words), acks.go, status.go (the hub's last will), ending.go, discovery.go
// (devices that nobody registered), bridged.go (devices behind it), externalmaps.go and mapped.go (messages by maps),
// orders.go and orderbook.go (commands by maps), mappedbroker.go (both at the embedded broker), try.go (what a message would become);
//
// both: traffic.go and numbers.go (how they fare, for people), metrics.go, log.go.
package bridge
