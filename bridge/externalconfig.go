package bridge

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"telemetryhub/wire"
)

// ExternalConfig configures the client of one external broker.
type ExternalConfig struct {
	Name         string        `yaml:"name"` // of the bridge; 1 to 64 of [A-Za-z0-9._:-]
	URL          string        `yaml:"url"`  // mqtt://, mqtts://, ws:// or wss://
	Username     string        `yaml:"username"`
	Password     string        `yaml:"password"`
	CAFile       string        `yaml:"ca_file"`       // PEM; the system's authorities without it
	ClientID     string        `yaml:"client_id"`     // by default made of the bridge's and the host's name; no two hubs may share one
	Prefix       string        `yaml:"prefix"`        // topics are PREFIX/DEVICE/telemetry and so on
	QoS          int           `yaml:"qos"`           // of the subscriptions
	CleanSession bool          `yaml:"clean_session"` // true: what comes while the hub is away is lost
	MaxInFlight  int           `yaml:"max_inflight"`  // messages received and not yet acknowledged
	Idle         time.Duration `yaml:"idle"`          // a device without messages for this long is offline
	Keepalive    time.Duration `yaml:"keepalive"`
	RetryMin     time.Duration `yaml:"retry_min"` // the wait before the first attempt to reconnect is at most this long,
	RetryMax     time.Duration `yaml:"retry_max"` // and doubles to this; it is drawn evenly from zero to there
}

// DefaultExternalConfig returns the defaults; Name and URL have none.
func DefaultExternalConfig() ExternalConfig {
	return ExternalConfig{
		Prefix: ownPrefix, QoS: 1, MaxInFlight: 256, Idle: 10 * time.Minute,
		Keepalive: 30 * time.Second, RetryMin: time.Second, RetryMax: time.Minute,
	}
}

// Validate reports all faults at once.
func (c ExternalConfig) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := wire.CheckDeviceID(c.Name); err != nil {
		fault("name: %q is not 1 to 64 of [A-Za-z0-9._:-]", c.Name)
	}
	if u, err := url.Parse(c.URL); err != nil {
		fault("url: it cannot be read as a URL") // the error quotes the URL, which may hold a password
	} else if _, ok := secured(u.Scheme); !ok || u.Host == "" {
		fault("url: %q is not mqtt://HOST:PORT, mqtts://, ws:// or wss://", u.Redacted())
	}
	if c.Password != "" && c.Username == "" {
		fault("password: MQTT 3.1.1 has no password without a username")
	}
	if c.CAFile != "" {
		if _, err := os.Stat(c.CAFile); err != nil {
			fault("ca_file: %w", err)
		}
	}
	if c.Prefix == "" || strings.ContainsAny(c.Prefix, "+#\x00") || strings.HasSuffix(c.Prefix, "/") {
		fault("prefix: %q is not a topic without wildcards and without a slash at its end", c.Prefix)
	}
	if c.QoS < 0 || c.QoS > 2 {
		fault("qos: %d is not 0, 1 or 2", c.QoS)
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > 65535 {
		fault("max_inflight: %d is not from 1 to 65535", c.MaxInFlight)
	}
	if c.Idle < time.Second {
		fault("idle: %s is less than 1s", c.Idle)
	}
	if c.Keepalive < time.Second || c.Keepalive > longestKeepalive {
		fault("keepalive: %s is not from 1s to %s", c.Keepalive, longestKeepalive)
	}
	if c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		fault("retry_min, retry_max: %s and %s are not above 0s and in order", c.RetryMin, c.RetryMax)
	}
	return errors.Join(faults...)
}

// secured reports whether a URL scheme stands for TLS, and whether it is one of ours.
func secured(scheme string) (tls, ok bool) {
	switch scheme {
	case "mqtt", "tcp", "ws":
		return false, true
	case "mqtts", "ssl", "tls", "wss":
		return true, true
	}
	return false, false
}

// clientID returns the configured client id, or one that stays the same over restarts, as a persistent session needs.
func (c ExternalConfig) clientID() string {
	if c.ClientID != "" {
		return c.ClientID
	}
	host, err := os.Hostname()
	if err != nil {
		host = "hub"
	}
	return "telemetry-hub-" + c.Name + "-" + host
}
