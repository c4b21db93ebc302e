package bridge

import (
	"errors"
	"fmt"
	"net"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// Off is the address of a listener that is not wanted.
const Off = "off"

// BrokerConfig configures the embedded broker.
type BrokerConfig struct {
	Listen        string        `yaml:"listen"`            // HOST:PORT of MQTT over TLS, or "off"
	Plain         string        `yaml:"plain_listen"`      // HOST:PORT of MQTT without TLS, or "off"; loopback only
	PlainAnywhere bool          `yaml:"plain_anywhere"`    // lets plain_listen be any address: tokens then travel in the open
	MaxFrame      int           `yaml:"max_frame"`         // bytes of a payload
	Handshake     time.Duration `yaml:"handshake_timeout"` // from the accepted socket to a whole CONNECT
	Unacked       time.Duration `yaml:"unacked_timeout"`   // a connection ends when what was sent to it is not acknowledged by its TCP for so long
	MaxKeepalive  time.Duration `yaml:"max_keepalive"`     // longest keepalive; also of devices that ask for none
	SessionExpiry time.Duration `yaml:"session_expiry"`    // how long a disconnected device's session is kept

	Maps []maps.Group `yaml:"-"` // what the messages of devices mean that speak their own words

	// Of what devices say to each other.
	Grants           []Grant `yaml:"grants"`
	MaxQueued        int     `yaml:"max_queued"`         // messages that wait for one session; beyond it the oldest go
	MaxQueuedBytes   int     `yaml:"max_queued_bytes"`   // and their bytes
	MaxRetained      int     `yaml:"max_retained"`       // messages that are retained, in all
	MaxRetainedBytes int     `yaml:"max_retained_bytes"` // and their bytes
	MaxSubscriptions int     `yaml:"max_subscriptions"`  // of one session
}

// DefaultBrokerConfig returns the defaults: TLS on port 8883, nothing in the open.
func DefaultBrokerConfig() BrokerConfig {
	return BrokerConfig{
		Listen: ":8883", Plain: Off, MaxFrame: wire.DefaultMaxFrame, Handshake: 10 * time.Second,
		Unacked: 45 * time.Second, MaxKeepalive: time.Hour, SessionExpiry: time.Hour,
		MaxQueued: 100, MaxQueuedBytes: 1 << 20, MaxRetained: 1000, MaxRetainedBytes: 1 << 20, MaxSubscriptions: 50,
	}
}

// What a connection may cost. writeTimeout bounds how long a peer that does not read can hold a takeover up; it is cut
// to hurriedWrite once the connection is to end.
const (
	packetOverhead   = 1 << 10 // bytes of topic, properties and header beside a payload
	writeTimeout     = 10 * time.Second
	hurriedWrite     = time.Second
	commandQueue     = 256            // commands that wait for a device's socket
	commandInflight  = 64             // QoS 1 commands without PUBACK
	letterInflight   = 32             // QoS 1 messages of other devices without PUBACK
	receiveMaximum   = 1024           // QoS 1 and 2 messages that an MQTT 5 device may have in flight
	topicAliases     = 16             // of an MQTT 5 device
	keptSessions     = 4              // sessions of one device, told apart by client id, that outlive their connections
	longestKeepalive = 12 * time.Hour // 1.5 times it, in seconds, still fits the 16 bits in which mochi reckons
)

// LongestSessionExpiry bounds BrokerConfig.SessionExpiry.
const LongestSessionExpiry = 365 * 24 * time.Hour

// Validate reports all faults at once.
func (c BrokerConfig) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, l := range []struct{ key, address string }{{"listen", c.Listen}, {"plain_listen", c.Plain}} {
		if !wanted(l.address) {
			continue
		}
		if _, _, err := net.SplitHostPort(l.address); err != nil {
			fault("%s: %q is not HOST:PORT or %q: %w", l.key, l.address, Off, err)
		}
	}
	if err := c.checkPlain(); err != nil {
		faults = append(faults, err)
	}
	if c.MaxFrame < 256 || c.MaxFrame > wire.HardMaxFrame {
		fault("max_frame: %d is not from 256 to %d bytes", c.MaxFrame, wire.HardMaxFrame)
	}
	if c.Handshake < time.Second || c.Handshake > 5*time.Minute {
		fault("handshake_timeout: %s is not from 1s to 5m", c.Handshake)
	}
	if c.MaxKeepalive < 5*time.Second || c.MaxKeepalive > longestKeepalive {
		fault("max_keepalive: %s is not from 5s to %s", c.MaxKeepalive, longestKeepalive)
	}
	if c.SessionExpiry < 0 || c.SessionExpiry > LongestSessionExpiry {
		fault("session_expiry: %s is not from 0s to %s", c.SessionExpiry, LongestSessionExpiry)
	}
	return errors.Join(append(faults, c.checkExchange()...)...)
}

// The most that can be configured of what is kept in memory.
const (
	MostQueued        = 100_000
	MostRetained      = 100_000
	MostKeptBytes     = 1 << 30
	MostSubscriptions = 1000
)

// checkExchange looks at what devices say to each other.
func (c BrokerConfig) checkExchange() (faults []error) {
	if len(c.Grants) > MostGrants {
		faults = append(faults, fmt.Errorf("grants: %d; at most %d", len(c.Grants), MostGrants))
	}
	for i, g := range c.Grants {
		for _, err := range g.Faults() {
			faults = append(faults, fmt.Errorf("grants[%d]: %w", i, err))
		}
	}
	for _, l := range []struct {
		key               string
		value, from, most int
	}{
		{"max_queued", c.MaxQueued, 1, MostQueued},
		{"max_queued_bytes", c.MaxQueuedBytes, 1 << 10, MostKeptBytes},
		{"max_retained", c.MaxRetained, 0, MostRetained},
		{"max_retained_bytes", c.MaxRetainedBytes, 0, MostKeptBytes},
		{"max_subscriptions", c.MaxSubscriptions, 1, MostSubscriptions},
	} {
		if l.value < l.from || l.value > l.most {
			faults = append(faults, fmt.Errorf("%s: %d is not from %d to %d", l.key, l.value, l.from, l.most))
		}
	}
	return faults
}

// checkPlain holds plain MQTT to loopback, where no one else can read the tokens.
func (c BrokerConfig) checkPlain() error {
	if !wanted(c.Plain) || c.PlainAnywhere {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Plain)
	if err != nil {
		return nil // told by Validate
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("plain_listen: %q is not a loopback address; tokens would travel in the open (plain_anywhere: true allows it)", c.Plain)
}

func wanted(address string) bool { return address != "" && address != Off }
