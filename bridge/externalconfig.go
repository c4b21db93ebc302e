package bridge

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// ExternalConfig configures the client of one external broker.
type ExternalConfig struct {
	Name string `yaml:"name"` // of the bridge; 1 to 64 of [A-Za-z0-9._:-]

	// How to reach the broker and what to show it. The files are read again for each connection.
	URL          string            `yaml:"url"`     // mqtt://, mqtts://, ws:// or wss://
	Headers      map[string]string `yaml:"headers"` // of the WebSocket's request
	Username     string            `yaml:"username"`
	Password     string            `yaml:"password"`
	PasswordFile string            `yaml:"password_file"` // holds the password; beats Password
	TLS          ExternalTLS       `yaml:",inline"`
	ClientID     string            `yaml:"client_id"` // by default made of the bridge's and the host's name; no two hubs may share one

	// What is asked of it.
	Prefix       string `yaml:"prefix"`        // topics are PREFIX/DEVICE/telemetry and so on
	QoS          int    `yaml:"qos"`           // of the subscriptions
	Share        string `yaml:"share"`         // group of hubs that split the readings; "": this one gets all
	StatusTopic  string `yaml:"status_topic"`  // bears online or offline, retained, the latter as last will; "": none
	CleanSession bool   `yaml:"clean_session"` // true: what comes while the hub is away is lost

	// What messages mean, beside the hub's own topics.
	Maps    []maps.Group `yaml:"-"`
	Foreign bool         `yaml:"foreign"` // the hub's own topics, at PREFIX, are not subscribed to

	Window ExternalWindow `yaml:",inline"`
	Timing ExternalTiming `yaml:",inline"`
}

// ExternalTLS says whom to trust, and who the hub is.
type ExternalTLS struct {
	CAFile     string `yaml:"ca_file"`     // PEM; the system's authorities without it
	CertFile   string `yaml:"cert_file"`   // PEM, the hub's certificate for the broker; with KeyFile
	KeyFile    string `yaml:"key_file"`    // PEM
	ServerName string `yaml:"server_name"` // that the broker's certificate has to bear; by default the URL's host
}

// ExternalWindow bounds what is received and not yet acknowledged.
type ExternalWindow struct {
	Messages   int `yaml:"max_inflight"`
	Bytes      int `yaml:"max_inflight_bytes"` // of topics and payloads; one message may always come
	MaxPayload int `yaml:"max_payload"`        // bytes; a larger one is read past and refused, whatever its device may send
}

// ExternalTiming says how long what takes.
type ExternalTiming struct {
	Idle      time.Duration `yaml:"idle"`            // a device without messages for this long is offline
	Connect   time.Duration `yaml:"connect_timeout"` // for TCP, TLS and CONNACK together, and again for SUBACK
	Keepalive time.Duration `yaml:"keepalive"`       // whole seconds; a broker that is silent for 1.5 times it is left
	RetryMin  time.Duration `yaml:"retry_min"`       // the wait before the first attempt to reconnect is at most this long,
	RetryMax  time.Duration `yaml:"retry_max"`       // and doubles to this; it is drawn evenly from zero to there
}

// DefaultExternalConfig returns the defaults; Name and URL have none.
func DefaultExternalConfig() ExternalConfig {
	return ExternalConfig{
		Prefix: ownPrefix, QoS: 1,
		Window: ExternalWindow{Messages: 256, Bytes: 16 << 20, MaxPayload: 1 << 20},
		Timing: ExternalTiming{
			Idle: 10 * time.Minute, Connect: 10 * time.Second, Keepalive: 30 * time.Second,
			RetryMin: time.Second, RetryMax: time.Minute,
		},
	}
}

// Bounds of ExternalConfig.
const (
	MostExternalMessages = 65535 // MQTT has so many packet ids
	LeastExternalBytes   = 64 << 10
	MostExternalBytes    = 1 << 30
	LongestKeepalive     = longestKeepalive
)

// Validate reports all faults at once.
func (c ExternalConfig) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := wire.CheckDeviceID(c.Name); err != nil {
		fault("name: %q is not 1 to 64 of [A-Za-z0-9._:-]", c.Name)
	}
	if c.Prefix == "" || CheckTopic(c.Prefix) != nil || strings.HasSuffix(c.Prefix, "/") {
		fault("prefix: %q is not a topic without wildcards and without a slash at its end", c.Prefix)
	}
	if c.QoS < 0 || c.QoS > 2 {
		fault("qos: %d is not 0, 1 or 2", c.QoS)
	}
	if c.Share != "" && !ValidShare(c.Share) {
		fault("share: %q is not the name of a group: no slash, no + or #", c.Share)
	}
	if c.StatusTopic != "" {
		if err := CheckStatusTopic(c.StatusTopic, c.Prefix); err != nil {
			fault("status_topic: %w", err)
		}
	}
	return errors.Join(append(faults, c.validateAccess(), c.Window.validate(), c.Timing.validate())...)
}

func (c ExternalConfig) validateAccess() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	u, err := url.Parse(c.URL)
	if err != nil {
		fault("url: it cannot be read as a URL") // the error quotes the URL, which may hold a password
		return errors.Join(faults...)
	}
	overTLS, ok := secured(u.Scheme)
	if !ok || u.Host == "" {
		fault("url: %q is not mqtt://HOST:PORT, mqtts://, ws:// or wss://", u.Redacted())
	}
	if u.User != nil {
		fault("url: the user belongs into username and password")
	}
	if len(c.Headers) > 0 && !overWebSocket(u.Scheme) {
		fault("headers: only ws:// and wss:// have any")
	}
	if c.Username == "" && (c.Password != "" || c.PasswordFile != "") {
		fault("password: MQTT 3.1.1 has no password without a username")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fault("cert_file, key_file: one is of no use without the other")
	}
	if c.TLS != (ExternalTLS{}) && ok && !overTLS {
		fault("ca_file, cert_file, key_file, server_name: %s:// has no TLS", u.Scheme)
	}
	for _, f := range []struct{ key, file string }{
		{"ca_file", c.TLS.CAFile}, {"cert_file", c.TLS.CertFile}, {"key_file", c.TLS.KeyFile}, {"password_file", c.PasswordFile},
	} {
		if f.file == "" {
			continue
		}
		if _, err := os.Stat(f.file); err != nil {
			fault("%s: %w", f.key, err)
		}
	}
	return errors.Join(faults...)
}

func (w ExternalWindow) validate() error {
	var faults []error
	if w.Messages < 1 || w.Messages > MostExternalMessages {
		faults = append(faults, fmt.Errorf("max_inflight: %d is not from 1 to %d", w.Messages, MostExternalMessages))
	}
	if w.Bytes < LeastExternalBytes || w.Bytes > MostExternalBytes {
		faults = append(faults, fmt.Errorf("max_inflight_bytes: %d is not from %d to %d", w.Bytes, LeastExternalBytes, MostExternalBytes))
	}
	if w.MaxPayload < 1<<10 || w.MaxPayload > wire.HardMaxFrame {
		faults = append(faults, fmt.Errorf("max_payload: %d is not from 1024 to %d bytes", w.MaxPayload, wire.HardMaxFrame))
	}
	return errors.Join(faults...)
}

func (t ExternalTiming) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if t.Idle < time.Second {
		fault("idle: %s is less than 1s", t.Idle)
	}
	if t.Connect < 100*time.Millisecond || t.Connect > 10*time.Minute {
		fault("connect_timeout: %s is not from 100ms to 10m", t.Connect)
	}
	if t.Keepalive < time.Second || t.Keepalive > longestKeepalive {
		fault("keepalive: %s is not from 1s to %s", t.Keepalive, longestKeepalive)
	}
	if t.RetryMin <= 0 || t.RetryMax < t.RetryMin {
		fault("retry_min, retry_max: %s and %s are not above 0s and in order", t.RetryMin, t.RetryMax)
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

func overWebSocket(scheme string) bool { return scheme == "ws" || scheme == "wss" }

// ValidShare accepts the name of a group of shared subscriptions (MQTT 5 section 4.8.2).
func ValidShare(group string) bool {
	return group != "" && utf8.ValidString(group) && !strings.ContainsAny(group, "/+#\x00")
}

// CheckTopic refuses what is no topic to publish on (MQTT 3.1.1 sections 1.5.3, 3.3.2.1 and 4.7).
func CheckTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("the topic is empty")
	case len(topic) > math.MaxUint16:
		return fmt.Errorf("the topic has %d bytes; the limit is %d", len(topic), math.MaxUint16)
	case !utf8.ValidString(topic):
		return errors.New("the topic is not UTF-8")
	case strings.ContainsRune(topic, 0):
		return errors.New("the topic holds a NUL")
	case strings.ContainsAny(topic, "+#"):
		return fmt.Errorf("the topic %q holds a wildcard", topic)
	}
	return nil
}

// CheckStatusTopic refuses what the hub cannot say its status on.
func CheckStatusTopic(topic, prefix string) error {
	if err := CheckTopic(topic); err != nil {
		return err
	}
	if _, about, ok := splitTopic(prefix, topic); ok && about.fromDevice() {
		return fmt.Errorf("%q is a topic of devices: the hub would take its own word for theirs", topic)
	}
	return nil
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

// password returns the password for the next connection.
func (c ExternalConfig) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	data, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil // editors end the last line
}
