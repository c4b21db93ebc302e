package main

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"telemetryhub/auth"
	"telemetryhub/bridge"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
	"telemetryhub/devices/state"
	"telemetryhub/ingest"
	"telemetryhub/wire"
)

// Values of keys that are one of a few words.
const (
	storeEmbedded = "embedded"
	storeInfluxDB = "influxdb"
)

// Bounds of values. A frame above 16 MiB is not even read past (close code 1009), so no limit can lie above.
const (
	minFrame    Size = 1 << 10
	maxFrame    Size = 16 << 20
	minKeep     Size = 16 << 20 // room for the batches in flight
	minAudit    Size = 1 << 20  // several of the largest batches
	minJournal  Size = 64 << 20 // several of the largest envelopes
	maxLines         = 100_000
	maxFields        = 100_000
	maxDuration      = 100 * 365 * 24 * time.Hour
)

// validate notes every value that cannot be meant.
func (c *Config) validate(faults *faultList) {
	if c.Data == "" {
		faults.add("data", "must name a folder")
	}
	c.validateListeners(faults)
	c.validateTLS(faults)
	c.validateDevices(faults)
	c.validateCertificates(faults)
	c.validateTypes(faults)
	c.validateProfiles(faults)
	c.validateIngest(faults)
	c.validateStore(faults)
	c.validateCommands(faults)
	within(faults, "audit.keep", c.Audit.Keep, time.Hour, maxDuration)
	within(faults, "audit.keep_bytes", c.Audit.KeepBytes, minAudit, 1<<40)
	within(faults, "state.max_bytes", c.State.MaxBytes, state.LeastMaxBytes, state.MostMaxBytes)
	c.validateMQTT(faults)
	c.NATS.validate(faults)
	c.Bridge.validate(faults)
	wantOneOf(faults, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	wantOneOf(faults, "log.format", c.Log.Format, "text", "json")
}

func (c *Config) validateListeners(faults *faultList) {
	wantListen(faults, "listen", c.Listen)
	listeners := []struct{ key, address string }{
		{"listen", c.Listen},
		{"http.listen", c.HTTP.Listen},
		{"mqtt.listen", c.MQTT.Listen},
		{"mqtt.plain_listen", c.MQTT.PlainListen},
	}
	for i, l := range listeners {
		if l.address == "" {
			continue
		}
		if wantListen(faults, l.key, l.address) && strings.HasSuffix(l.address, ":0") {
			continue // any free port: never the same one twice
		}
		for _, earlier := range listeners[:i] {
			if l.address == earlier.address {
				faults.add(l.key, "%s is already the address of %s", l.address, earlier.key)
			}
		}
	}
	if c.HTTP.Listen != "" && !loopback(c.HTTP.Listen) {
		faults.add("http.listen", "%q is not a loopback address: this listener has no TLS and is for a proxy on the same machine; write it like 127.0.0.1:8080", c.HTTP.Listen)
	}
	if c.MQTT.PlainListen != "" && !loopback(c.MQTT.PlainListen) && !c.MQTT.PlainAnywhere {
		faults.add("mqtt.plain_listen", "%q is not a loopback address: devices would send their tokens unencrypted; if that is meant, set mqtt.plain_anywhere: true", c.MQTT.PlainListen)
	}
}

func (c *Config) validateTLS(faults *faultList) {
	wantFile(faults, "tls.cert_file", c.TLS.CertFile)
	wantFile(faults, "tls.key_file", c.TLS.KeyFile)
	switch {
	case c.TLS.CertFile != "" && c.TLS.KeyFile == "":
		faults.add("tls.key_file", "is needed with tls.cert_file")
	case c.TLS.KeyFile != "" && c.TLS.CertFile == "":
		faults.add("tls.cert_file", "is needed with tls.key_file")
	}
	for i, name := range c.TLS.Names {
		if err := auth.CheckServerName(name); err != nil {
			faults.add(fmt.Sprintf("tls.names[%d]", i), "%v", err)
		}
	}
}

func (c *Config) validateDevices(faults *faultList) {
	within(faults, "devices.max_frame", c.Devices.MaxFrame, minFrame, maxFrame)
	within(faults, "devices.write_timeout", c.Devices.WriteTimeout, 100*time.Millisecond, 10*time.Minute)
	within(faults, "devices.handshake_timeout", c.Devices.HandshakeTimeout, 100*time.Millisecond, 10*time.Minute)
	within(faults, "devices.max_handshakes", c.Devices.MaxHandshakes, 0, 100_000)
	within(faults, "devices.connect_rate", c.Devices.ConnectRate, 0, 1_000_000)
	within(faults, "devices.max_connections", c.Devices.MaxConnections, 0, 10_000_000)
	c.Devices.Clones.validate(faults)
	within(faults, "devices.probe_after", c.Devices.ProbeAfter, 0, maxDuration)
	within(faults, "devices.probe_timeout", c.Devices.ProbeTimeout, time.Second, time.Hour)
	c.Devices.Tokens.validate(faults)
	c.Devices.Presence.validate(faults)
}

func (c ClonesConfig) validate(faults *faultList) {
	wantOneOf(faults, "devices.clones.policy", c.Policy, devices.ClonesFreeze, devices.ClonesNewest)
	if c.Count != 0 {
		within(faults, "devices.clones.count", c.Count, devices.FewestClones, devices.MostClones)
	}
	within(faults, "devices.clones.window", c.Window, time.Second, time.Hour)
	within(faults, "devices.clones.freeze", c.Freeze, 0, maxDuration)
}

func (c TokensConfig) validate(faults *faultList) {
	if c.Lifetime != 0 {
		within(faults, "devices.tokens.lifetime", c.Lifetime, 10*time.Second, maxDuration)
	}
	within(faults, "devices.tokens.grace", c.Grace, 0, maxDuration)
	within(faults, "devices.tokens.overlap", c.Overlap, 10*time.Second, maxDuration)
}

func (c *Config) validateTypes(faults *faultList) {
	for i, t := range c.Types {
		at := fmt.Sprintf("types[%d]", i)
		same := func(other TypeConfig) bool { return other.Name == t.Name }
		if earlier := slices.IndexFunc(c.Types, same); earlier < i && t.Name != "" {
			faults.add(at+".name", "%q is already the name of types[%d]", t.Name, earlier)
		}
		if t.Name == "" {
			faults.add(at+".name", "must be a type that devices have in the registry")
		}
		if t.Measurement != "" && !wire.IsMeasurement([]byte(t.Measurement)) {
			faults.add(at+".measurement", "%q is no name of a measurement: 1 to %d bytes without control characters or \\, and no # first", t.Measurement, wire.MaxMeasurement)
		}
		for _, field := range slices.Sorted(maps.Keys(t.Fields)) {
			key := at + ".fields." + field
			if field == "" {
				faults.add(key, "a field has a name")
			}
			of := t.Fields[field]
			if !isFieldType(of.Type) && (of.Type != "" || of.Unit == "") {
				faults.add(key+".type", "%q is not one of float, integer, string, boolean", of.Type)
			}
			if len(of.Unit) > wire.MaxUnit || strings.ContainsFunc(of.Unit, unicode.IsControl) {
				faults.add(key+".unit", "%q is not a unit: at most %d bytes without control characters", of.Unit, wire.MaxUnit)
			}
		}
		t.validateMethods(faults, at)
	}
}

func isFieldType(t string) bool {
	switch ingest.FieldType(t) {
	case ingest.FloatField, ingest.IntegerField, ingest.StringField, ingest.BooleanField:
		return true
	}
	return false
}

func (c *Config) validateIngest(faults *faultList) {
	within(faults, "ingest.journal_bytes", c.Ingest.JournalBytes, minJournal, 1<<60)
	within(faults, "ingest.keep", c.Ingest.Keep, time.Minute, maxDuration)
	within(faults, "ingest.keep_bytes", c.Ingest.KeepBytes, minKeep, 1<<60)
	within(faults, "ingest.disk_reserve", c.Ingest.DiskReserve, 0, 1<<60)
	within(faults, "ingest.batch_lines", c.Ingest.BatchLines, 1, maxLines)
	within(faults, "ingest.batch_age", c.Ingest.BatchAge, time.Millisecond, time.Minute)
	within(faults, "ingest.future_limit", c.Ingest.FutureLimit, 0, maxDuration)
	if name := c.Ingest.ReceivedField; name != "" && wire.CheckFieldName(name) != "" {
		faults.add("ingest.received_field", "%q cannot be the name of a field", name)
	}
	within(faults, "ingest.device_fields", c.Ingest.DeviceFields, 1, maxFields)
	within(faults, "ingest.measurement_fields", c.Ingest.MeasurementFields, 1, maxFields)
	within(faults, "ingest.total_fields", c.Ingest.TotalFields, 1, 10*maxFields)
	// InfluxDB keeps times, and the beginnings of its shards of a year, as nanoseconds in 64 bits.
	if c.Ingest.PastLimit.Year() < 1680 || c.Ingest.PastLimit.Year() > 2261 {
		faults.add("ingest.past_limit", "%s is outside of what a store can hold, 1680 to 2261", c.Ingest.PastLimit.Format(time.DateOnly))
	}
}

func (c *Config) validateStore(faults *faultList) {
	wantOneOf(faults, "store.kind", c.Store.Kind, storeEmbedded, storeInfluxDB)
	if c.Store.Retention != 0 {
		// A shard group is at least an hour long (InfluxDB's own bound).
		within(faults, "store.retention", c.Store.Retention, time.Hour, maxDuration)
		if c.Store.Kind == storeInfluxDB {
			faults.add("store.retention", "is for the embedded store; with InfluxDB the bucket has its own retention")
		}
	}
	influx := c.Store.InfluxDB
	within(faults, "store.influxdb.timeout", influx.Timeout, 100*time.Millisecond, time.Hour)
	if influx.URL != "" {
		wantURL(faults, "store.influxdb.url", influx.URL, "http", "https")
		if u, err := url.Parse(influx.URL); err == nil && (u.User != nil || u.RawQuery != "" || u.Fragment != "") {
			faults.add("store.influxdb.url", "is more than http://HOST:PORT: a user belongs into store.influxdb.token, as USER:PASSWORD")
		}
	}
	if c.Store.Kind != storeInfluxDB {
		return
	}
	if influx.URL == "" {
		faults.add("store.influxdb.url", "is needed with store.kind: influxdb; write it like http://127.0.0.1:8086")
	}
	if db, _, _ := strings.Cut(influx.Bucket, "/"); db == "" {
		faults.add("store.influxdb.bucket", "is needed with store.kind: influxdb")
	}
}

func (c *Config) validateCommands(faults *faultList) {
	within(faults, "commands.timeout", c.Commands.Timeout, 100*time.Millisecond, commands.LongestTimeout)
	within(faults, "commands.keep", c.Commands.Keep, commands.ShortestKeep, commands.LongestKeep)
	within(faults, "commands.expires", c.Commands.Expires, time.Second, commands.LongestKeep)
	if c.Commands.Keep >= commands.ShortestKeep && c.Commands.Expires > c.Commands.Keep {
		faults.add("commands.expires", "%s is longer than commands.keep, %s", c.Commands.Expires, c.Commands.Keep)
	}
	within(faults, "commands.max_params", c.Commands.MaxParams, minFrame, commands.LargestParams)
	within(faults, "commands.queue", c.Commands.Queue, 1, commands.LargestQueue)
	within(faults, "commands.outstanding", c.Commands.Outstanding, 1, commands.MostOutstanding)
	within(faults, "commands.rollouts.open", c.Commands.Rollouts.Open, 1, rollouts.LargestOpen)
	within(faults, "commands.rollouts.grace", c.Commands.Rollouts.Grace, 0, rollouts.LongestGrace)
}

func (c *Config) validateMQTT(faults *faultList) {
	within(faults, "mqtt.session_expiry", c.MQTT.SessionExpiry, 0, bridge.LongestSessionExpiry)
	c.MQTT.validate(faults, "mqtt")
	within(faults, "mqtt.max_queued", c.MQTT.MaxQueued, 1, bridge.MostQueued)
	within(faults, "mqtt.max_queued_bytes", c.MQTT.MaxQueuedBytes, minFrame, bridge.MostKeptBytes)
	within(faults, "mqtt.max_retained", c.MQTT.MaxRetained, 0, bridge.MostRetained)
	within(faults, "mqtt.max_retained_bytes", c.MQTT.MaxRetainedBytes, 0, bridge.MostKeptBytes)
	within(faults, "mqtt.max_subscriptions", c.MQTT.MaxSubscriptions, 1, bridge.MostSubscriptions)
	if len(c.MQTT.Grants) > bridge.MostGrants {
		faults.add("mqtt.grants", "%d; at most %d", len(c.MQTT.Grants), bridge.MostGrants)
	}
	for i, g := range c.MQTT.Grants {
		for _, err := range g.Faults() {
			faults.add(fmt.Sprintf("mqtt.grants[%d]", i), "%v", err)
		}
	}
}

func (n NATSConfig) validate(faults *faultList) {
	if n.URL != "" {
		for server := range strings.SplitSeq(n.URL, ",") {
			wantURL(faults, "nats.url", strings.TrimSpace(server), "nats", "tls", "ws", "wss")
		}
	}
	wantFile(faults, "nats.credentials_file", n.CredentialsFile)
	wantFile(faults, "nats.ca_file", n.CAFile)
}

func (b BridgeConfig) validate(faults *faultList) {
	for i, broker := range b.Brokers {
		at := fmt.Sprintf("bridge.brokers[%d]", i)
		broker.validate(faults, at)
		same := func(other BrokerConfig) bool { return other.Name == broker.Name }
		if earlier := slices.IndexFunc(b.Brokers, same); earlier < i && broker.Name != "" {
			faults.add(at+".name", "%q is already the name of bridge.brokers[%d]", broker.Name, earlier)
		}
		same = func(other BrokerConfig) bool { return other.URL == broker.URL && other.ClientID == broker.ClientID }
		if earlier := slices.IndexFunc(b.Brokers, same); earlier < i && broker.ClientID != "" {
			faults.add(at+".client_id", "%q is already that of bridge.brokers[%d] at the same broker, which would end one connection for the other", broker.ClientID, earlier)
		}
	}
	b.validateAdmit(faults)
}

func (b BrokerConfig) validate(faults *faultList, at string) {
	if !validBrokerName(b.Name) {
		faults.add(at+".name", "%q is not a name: 1 to 32 letters, digits, - and _", b.Name)
	}
	b.validateAccess(faults, at)
	b.validateTopics(faults, at)
	b.validateBounds(faults, at)
	b.MapsConfig.validate(faults, at)
}

// validBrokerName accepts what can be part of the name of an environment variable and of a label in a metric.
func validBrokerName(name string) bool {
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && c != '-' && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= 32
}

// wantListen checks the form HOST:PORT; the host may be missing, the port may be 0.
func wantListen(faults *faultList, key, address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		faults.add(key, "%q is not HOST:PORT; write it like :8443 or 127.0.0.1:8443", address)
	}
	return err == nil
}

// loopback reports whether an address can be reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// wantURL does not repeat the value: it may hold a password.
func wantURL(faults *faultList, key, text string, schemes ...string) {
	if text == "" {
		faults.add(key, "is needed; write it like %s://HOST:PORT", schemes[0])
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		faults.add(key, "is not a URL of the form %s://HOST:PORT (schemes: %s)", schemes[0], strings.Join(schemes, ", "))
	}
}

// wantFile checks that a file that is named can be read.
func wantFile(faults *faultList, key, path string) {
	if path == "" {
		return
	}
	file, err := os.Open(path)
	if err != nil {
		faults.add(key, "%v", err)
		return
	}
	_ = file.Close()
}

func wantOneOf(faults *faultList, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		faults.add(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func within[T cmp.Ordered](faults *faultList, key string, value, low, high T) {
	switch {
	case value < low:
		faults.add(key, "%v is too small: at least %v", value, low)
	case value > high:
		faults.add(key, "%v is too large: at most %v", value, high)
	}
}
