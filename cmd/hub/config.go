package main

import (
	"time"

	"telemetryhub/auth"
	"telemetryhub/backbone"
	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
	"telemetryhub/devices/state"
)

// Config is the hub's configuration: one section per part. configs/hub.yaml shows each key with its default.
type Config struct {
	Data     string         `yaml:"data"`   // folder for all that the hub keeps; relative to the working folder
	Listen   string         `yaml:"listen"` // HOST:PORT of the TLS port: devices, API, dashboard
	TLS      auth.TLSConfig `yaml:"tls"`
	HTTP     HTTPConfig     `yaml:"http"`
	Devices  DevicesConfig  `yaml:"devices"`
	Types    []TypeConfig   `yaml:"types"`
	Ingest   IngestConfig   `yaml:"ingest"`
	Store    StoreConfig    `yaml:"store"`
	NATS     NATSConfig     `yaml:"nats"`
	Commands CommandsConfig `yaml:"commands"`
	Audit    AuditConfig    `yaml:"audit"`
	State    StateConfig    `yaml:"state"`
	MQTT     MQTTConfig     `yaml:"mqtt"`
	Bridge   BridgeConfig   `yaml:"bridge"`
	Log      LogConfig      `yaml:"log"`
}

// HTTPConfig is the plain listener for a proxy on the same machine.
type HTTPConfig struct {
	Listen    string `yaml:"listen"`    // loopback only; empty: none
	Forwarded bool   `yaml:"forwarded"` // believe the proxy's X-Forwarded-For
}

// DevicesConfig bounds what one device may ask of the hub.
type DevicesConfig struct {
	MaxFrame         Size          `yaml:"max_frame"`     // largest frame, MQTT payload or HTTP body that is taken
	Keepalive        time.Duration `yaml:"keepalive"`     // longest silence before the hub pings, unless the device asks for another
	KeepaliveMin     time.Duration `yaml:"keepalive_min"` // of what a device may ask for
	KeepaliveMax     time.Duration `yaml:"keepalive_max"`
	WriteTimeout     time.Duration `yaml:"write_timeout"`     // for one write to a socket
	HandshakeTimeout time.Duration `yaml:"handshake_timeout"` // from accept to the end of the upgrade
	MaxHandshakes    int           `yaml:"max_handshakes"`    // at once; 0: one a processor
	ConnectRate      int           `yaml:"connect_rate"`      // devices let in a second; 0: 400 a processor
	MaxConnections   int           `yaml:"max_connections"`   // of devices; 0: what the limit of open files leaves
	Limits           LimitsConfig  `yaml:"limits"`
	Clones           ClonesConfig  `yaml:"clones"`
	ProbeAfter       time.Duration `yaml:"probe_after"`   // of silence of the program; 0: never
	ProbeTimeout     time.Duration `yaml:"probe_timeout"` // then the device is unresponsive
	Tokens           TokensConfig  `yaml:"tokens"`

	Certificates CertificatesConfig `yaml:"certificates"`
	Presence     PresenceConfig     `yaml:"presence"`
}

// PresenceConfig says who is told that devices come and go, beside the live stream.
type PresenceConfig struct {
	Measurement string        `yaml:"measurement"` // of readings that tell it; empty: none
	Webhook     WebhookConfig `yaml:"webhook"`
}

// WebhookConfig is where changes of presence are posted.
type WebhookConfig struct {
	URL           string        `yaml:"url"`    // empty: nowhere
	Secret        Secret        `yaml:"secret"` // of the signature; empty: none
	SecretFile    string        `yaml:"secret_file"`
	Headers       []Secret      `yaml:"headers"` // NAME: VALUE
	CAFile        string        `yaml:"ca_file"` // of the receiver; empty: whom the system trusts
	PlainAnywhere bool          `yaml:"plain_anywhere"`
	Batch         int           `yaml:"batch"`    // changes in one post at most
	Wait          time.Duration `yaml:"wait"`     // how long a change waits for others
	Debounce      time.Duration `yaml:"debounce"` // how long it waits for a later one of the same device
	Timeout       time.Duration `yaml:"timeout"`  // of one post
	Queue         int           `yaml:"queue"`    // changes that wait at most
}

// ClonesConfig says what is done about several devices that use one identity and displace each other.
type ClonesConfig struct {
	Policy string        `yaml:"policy"` // freeze or newest
	Count  int           `yaml:"count"`  // displacements within window; 0: never
	Window time.Duration `yaml:"window"`
	Freeze time.Duration `yaml:"freeze"` // how long; 0: until an operator ends it
}

// TokensConfig is how long devices' tokens live.
type TokensConfig struct {
	Lifetime time.Duration `yaml:"lifetime"` // of a new one; 0: for ever
	Grace    time.Duration `yaml:"grace"`    // an expired one may be renewed for so long
	Overlap  time.Duration `yaml:"overlap"`  // two tokens of a rotation that is not finished stay valid for so long
}

// TypeConfig says what is known of all devices of one type, as the registry names it.
type TypeConfig struct {
	Name         string                  `yaml:"name"`
	Measurement  string                  `yaml:"measurement"` // where its devices' readings stand; empty: as the bridges' maps say, or telemetry
	Fields       map[string]FieldConfig  `yaml:"fields"`
	Keepalive    KeepaliveConfig         `yaml:"keepalive"`
	Limits       TypeLimitsConfig        `yaml:"limits"`
	Methods      map[string]MethodConfig `yaml:"methods"`
	OtherMethods string                  `yaml:"other_methods"` // allow, refuse or announced; empty: refuse if there are methods, else allow
}

// MethodConfig says what devices of a type do when they are sent a command.
type MethodConfig struct {
	Description string        `yaml:"description"`
	Params      Schema        `yaml:"params"`
	Timeout     time.Duration `yaml:"timeout"`  // for the answer; 0: that of all commands
	Delivery    string        `yaml:"delivery"` // at-most-once or at-least-once; empty: that of all commands
	Role        string        `yaml:"role"`     // whom it takes to send it: operator or admin; empty: operator
}

// FieldConfig says what a field holds.
type FieldConfig struct {
	Type string `yaml:"type"` // float, integer, string or boolean; empty, beside a unit: that of the first value
	Unit string `yaml:"unit"` // for people
}

// IngestConfig is the way from the accepted reading to the store.
type IngestConfig struct {
	JournalBytes Size          `yaml:"journal_bytes"` // when so much waits for the store, devices wait
	Keep         time.Duration `yaml:"keep"`          // how long the journal keeps what the store has taken
	KeepBytes    Size          `yaml:"keep_bytes"`    // and how much of it
	DiskReserve  Size          `yaml:"disk_reserve"`  // free space that the journal leaves; 0: by the disk's size
	BatchLines   int           `yaml:"batch_lines"`   // one write to the store
	BatchAge     time.Duration `yaml:"batch_age"`     // longest wait for a batch to fill
	PastLimit    time.Time     `yaml:"past_limit"`    // readings measured before are quarantined
	FutureLimit  time.Duration `yaml:"future_limit"`  // readings from further ahead are quarantined

	ReceivedField     string `yaml:"received_field"`     // field of the store that tells the time of receipt; empty: none
	DeviceFields      int    `yaml:"device_fields"`      // distinct fields of one device; readings with more are quarantined
	MeasurementFields int    `yaml:"measurement_fields"` // of one measurement
	TotalFields       int    `yaml:"total_fields"`       // of all
}

// StoreConfig says where readings end up.
type StoreConfig struct {
	Kind      string         `yaml:"kind"`      // embedded or influxdb
	Retention time.Duration  `yaml:"retention"` // of the embedded store; 0: for ever
	InfluxDB  InfluxDBConfig `yaml:"influxdb"`
}

// InfluxDBConfig reaches an InfluxDB server.
type InfluxDBConfig struct {
	URL       string        `yaml:"url"`
	Org       string        `yaml:"org"`
	Bucket    string        `yaml:"bucket"` // 1.x: DATABASE/RETENTIONPOLICY
	Token     Secret        `yaml:"token"`  // 1.x: USER:PASSWORD
	TokenFile string        `yaml:"token_file"`
	Timeout   time.Duration `yaml:"timeout"`
	Gzip      bool          `yaml:"gzip"`
}

// NATSConfig reaches an external NATS cluster.
type NATSConfig struct {
	URL             string `yaml:"url"` // several by commas; empty: the embedded server
	CredentialsFile string `yaml:"credentials_file"`
	CAFile          string `yaml:"ca_file"`
}

// CommandsConfig holds the defaults and bounds of commands.
type CommandsConfig struct {
	Timeout     time.Duration `yaml:"timeout"` // for the answer
	Expires     time.Duration `yaml:"expires"` // for the start
	Keep        time.Duration `yaml:"keep"`    // how long the ledger remembers
	MaxParams   Size          `yaml:"max_params"`
	Queue       int           `yaml:"queue"`       // that wait for one device
	Outstanding int           `yaml:"outstanding"` // that one device was sent and has not answered

	Rollouts RolloutsConfig `yaml:"rollouts"`
}

// RolloutsConfig bounds commands to many devices.
type RolloutsConfig struct {
	Open  int           `yaml:"open"`  // commands of one rollout at devices at a time
	Grace time.Duration `yaml:"grace"` // for devices to come back after a start of the hub
}

// AuditConfig bounds the audit log of what operators do.
type AuditConfig struct {
	Keep      time.Duration `yaml:"keep"`       // how long an act is kept
	KeepBytes Size          `yaml:"keep_bytes"` // and how many bytes of them
}

// StateConfig bounds what devices report of themselves and operators desire of them.
type StateConfig struct {
	MaxBytes Size `yaml:"max_bytes"` // of each half of a device's document
}

// MQTTConfig is the embedded broker.
type MQTTConfig struct {
	Listen        string        `yaml:"listen"`         // MQTT over TLS; empty (or "off"): none
	PlainListen   string        `yaml:"plain_listen"`   // without TLS; empty (or "off"): none
	PlainAnywhere bool          `yaml:"plain_anywhere"` // allows plain_listen on other addresses than loopback
	SessionExpiry time.Duration `yaml:"session_expiry"` // how long the broker keeps the session of an absent client

	MapsConfig       `yaml:",inline"`
	Grants           []bridge.Grant `yaml:"grants"`             // topics on which devices talk to each other
	MaxQueued        int            `yaml:"max_queued"`         // messages that wait for one session
	MaxQueuedBytes   Size           `yaml:"max_queued_bytes"`   // and their bytes
	MaxRetained      int            `yaml:"max_retained"`       // messages that are retained, in all
	MaxRetainedBytes Size           `yaml:"max_retained_bytes"` // and their bytes
	MaxSubscriptions int            `yaml:"max_subscriptions"`  // of one session
}

// BridgeConfig lists the external brokers.
type BridgeConfig struct {
	Brokers []BrokerConfig `yaml:"brokers"`
	Admit   []AdmitConfig  `yaml:"admit"`
}

// BrokerConfig reaches one external MQTT broker.
type BrokerConfig struct {
	Name string `yaml:"name"`

	URL          string   `yaml:"url"`     // scheme mqtt, mqtts, ws or wss; tcp and ssl for the first two
	Headers      []Secret `yaml:"headers"` // of the WebSocket's request, NAME: VALUE
	Username     string   `yaml:"username"`
	Password     Secret   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"` // read again for each connection
	CAFile       string   `yaml:"ca_file"`
	CertFile     string   `yaml:"cert_file"` // the hub's for the broker, with KeyFile; both are read again for each connection
	KeyFile      string   `yaml:"key_file"`
	ServerName   string   `yaml:"server_name"` // in the broker's certificate; empty: the URL's host
	ClientID     string   `yaml:"client_id"`   // empty: telemetry-hub-NAME-HOST

	TopicsPrefix string `yaml:"topics_prefix"`
	QoS          int    `yaml:"qos"`
	Share        string `yaml:"share"`        // group of hubs that split the readings; empty: none
	StatusTopic  string `yaml:"status_topic"` // online and offline, retained; empty: none
	CleanSession bool   `yaml:"clean_session"`
	MapsConfig   `yaml:",inline"`
	Admit        string `yaml:"admit"`     // devices that are not registered: ask or always
	AdmitMax     int    `yaml:"admit_max"` // always: no more of them

	MaxInflight      int           `yaml:"max_inflight"`       // messages that are received and not yet acknowledged
	MaxInflightBytes Size          `yaml:"max_inflight_bytes"` // and their bytes
	MaxPayload       Size          `yaml:"max_payload"`
	Idle             time.Duration `yaml:"idle"`            // silence after which a device counts as offline
	ConnectTimeout   time.Duration `yaml:"connect_timeout"` // to CONNACK, and again to SUBACK
	Keepalive        time.Duration `yaml:"keepalive"`
	RetryMin         time.Duration `yaml:"retry_min"` // waits between attempts are drawn from zero to a bound that doubles from this
	RetryMax         time.Duration `yaml:"retry_max"` // to this
}

// LogConfig says what the hub tells about itself.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// defaults fills a broker of the list before its keys are read.
func (b *BrokerConfig) defaults() {
	e := bridge.DefaultExternalConfig()
	b.TopicsPrefix, b.QoS = e.Prefix, e.QoS
	b.MaxInflight, b.MaxInflightBytes, b.MaxPayload = e.Window.Messages, Size(e.Window.Bytes), Size(e.Window.MaxPayload)
	b.Idle, b.ConnectTimeout, b.Keepalive = e.Timing.Idle, e.Timing.Connect, e.Timing.Keepalive
	b.RetryMin, b.RetryMax = e.Timing.RetryMin, e.Timing.RetryMax
	b.Admit, b.AdmitMax = admitAsk, discovery.DefaultMax
}

// defaultConfig is the hub without any configuration: everything embedded.
func defaultConfig() Config {
	return Config{
		Data:   "./data",
		Listen: ":8443",
		Devices: DevicesConfig{
			MaxFrame:         64 << 10,
			Keepalive:        45 * time.Second, // below the 60 s at which common proxies cut
			WriteTimeout:     10 * time.Second,
			HandshakeTimeout: 10 * time.Second,
			KeepaliveMin:     10 * time.Second,
			KeepaliveMax:     15 * time.Minute,
			Limits:           LimitsConfig{Burst: 10 * time.Second, Connects: 60},
			ProbeAfter:       10 * time.Minute,
			ProbeTimeout:     15 * time.Second,
			Clones:           ClonesConfig{Policy: devices.ClonesFreeze, Count: 4, Window: time.Minute, Freeze: 10 * time.Minute},
			Tokens:           TokensConfig{Grace: 7 * 24 * time.Hour, Overlap: 7 * 24 * time.Hour},

			Certificates: CertificatesConfig{Lifetime: auth.DefaultDeviceCertificateLife},
			Presence:     PresenceConfig{Webhook: WebhookConfig{Batch: 500, Wait: time.Second, Timeout: 10 * time.Second, Queue: 20_000}},
		},
		Ingest: IngestConfig{
			JournalBytes: backbone.DefaultJournalMaxBytes,
			Keep:         24 * time.Hour,
			KeepBytes:    4 << 30,
			BatchLines:   5000,
			BatchAge:     250 * time.Millisecond,
			PastLimit:    time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC),
			FutureLimit:  10 * time.Minute,

			DeviceFields: 1024, MeasurementFields: 4096, TotalFields: 100_000,
		},
		Store: StoreConfig{
			Kind:     storeEmbedded,
			InfluxDB: InfluxDBConfig{Timeout: 30 * time.Second},
		},
		Commands: CommandsConfig{
			Timeout:   30 * time.Second,
			Expires:   24 * time.Hour,
			Keep:      30 * 24 * time.Hour,
			MaxParams: 64 << 10,

			Queue:       100,
			Outstanding: 1,
			Rollouts:    RolloutsConfig{Open: 500, Grace: time.Minute},
		},
		Audit: AuditConfig{Keep: backbone.DefaultActsKeep, KeepBytes: backbone.DefaultActsMaxBytes},
		State: StateConfig{MaxBytes: state.DefaultMaxBytes},
		MQTT: MQTTConfig{
			Listen:        ":8883",
			SessionExpiry: 24 * time.Hour,
			MaxQueued:     100, MaxQueuedBytes: 1 << 20, MaxRetained: 1000, MaxRetainedBytes: 1 << 20, MaxSubscriptions: 50,
		},
		Log: LogConfig{Level: "info", Format: "text"},
	}
}

// LoadConfig reads a configuration file, with secrets from the environment, over the defaults. Without a path it returns
// the defaults. A *ConfigError holds all faults at once.
func LoadConfig(path string, getenv func(string) string) (Config, error) {
	return flags{Config: path}.load(getenv)
}
