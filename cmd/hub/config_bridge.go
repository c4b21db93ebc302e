package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"telemetryhub/bridge"
)

// external is the configuration of the part that reaches the broker.
func (b BrokerConfig) external() bridge.ExternalConfig {
	e := bridge.DefaultExternalConfig()
	e.Name, e.URL, e.Username, e.Password, e.PasswordFile = b.Name, b.URL, b.Username, string(b.Password), b.PasswordFile
	e.TLS = bridge.ExternalTLS{CAFile: b.CAFile, CertFile: b.CertFile, KeyFile: b.KeyFile, ServerName: b.ServerName}
	for _, line := range b.Headers {
		if name, value, err := headerOf(string(line)); err == nil { // else validate has told it
			if e.Headers == nil {
				e.Headers = map[string]string{}
			}
			e.Headers[name] = value
		}
	}
	e.ClientID, e.Prefix, e.QoS, e.CleanSession = b.ClientID, b.TopicsPrefix, b.QoS, b.CleanSession
	e.Share, e.StatusTopic = b.Share, b.StatusTopic
	e.Window = bridge.ExternalWindow{Messages: b.MaxInflight, Bytes: int(b.MaxInflightBytes), MaxPayload: int(b.MaxPayload)}
	e.Timing = bridge.ExternalTiming{Idle: b.Idle, Connect: b.ConnectTimeout, Keepalive: b.Keepalive, RetryMin: b.RetryMin, RetryMax: b.RetryMax}
	e.Maps, _, _ = b.groups() // what is wrong with them validate has told
	e.Foreign = b.foreign()
	return e
}

// validateAccess checks how the broker is reached, and what it is shown.
func (b BrokerConfig) validateAccess(faults *faultList, at string) {
	wantURL(faults, at+".url", b.URL, "mqtt", "mqtts", "ws", "wss", "tcp", "ssl")
	u, err := url.Parse(b.URL)
	if err != nil {
		u = &url.URL{} // told
	}
	if u.User != nil {
		faults.add(at+".url", "holds a user: it belongs into username, its password into password_file or the environment")
	}
	overWebSocket := u.Scheme == "ws" || u.Scheme == "wss"
	if u.Scheme != "" && !overWebSocket && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "") {
		faults.add(at+".url", "has a path, which only ws:// and wss:// have")
	}
	if len(b.Headers) > 0 && !overWebSocket {
		faults.add(at+".headers", "are sent with ws:// and wss:// only")
	}
	for i, line := range b.Headers {
		if name, _, err := headerOf(string(line)); err != nil {
			faults.add(fmt.Sprintf("%s.headers[%d]", at, i), "%v", err)
		} else if ofHandshake(name) {
			faults.add(fmt.Sprintf("%s.headers[%d]", at, i), "%s is set by the WebSocket's handshake itself", name)
		}
	}
	plain := u.Scheme == "mqtt" || u.Scheme == "tcp" || u.Scheme == "ws"
	for _, f := range []struct{ key, value string }{
		{"ca_file", b.CAFile}, {"cert_file", b.CertFile}, {"key_file", b.KeyFile}, {"server_name", b.ServerName},
	} {
		if f.value != "" && plain {
			faults.add(at+"."+f.key, "is of no use with %s://, which has no TLS; write mqtts:// or wss://", u.Scheme)
		} else if f.key != "server_name" {
			wantFile(faults, at+"."+f.key, f.value)
		}
	}
	switch {
	case b.CertFile != "" && b.KeyFile == "":
		faults.add(at+".key_file", "is needed with cert_file")
	case b.KeyFile != "" && b.CertFile == "":
		faults.add(at+".cert_file", "is needed with key_file")
	}
	if b.Username == "" && b.Password != "" {
		// MQTT 3.1.1, section 3.1.2.9.
		faults.add(at+".password", "needs a username: MQTT 3.1.1 allows no password without one")
	}
}

// ofHandshake names what RFC 6455 section 4.1 sets.
func ofHandshake(header string) bool {
	lower := strings.ToLower(header)
	return lower == "upgrade" || lower == "connection" || strings.HasPrefix(lower, "sec-websocket-")
}

// validateTopics checks what is asked of the broker.
func (b BrokerConfig) validateTopics(faults *faultList, at string) {
	within(faults, at+".qos", b.QoS, 0, 2)
	if b.TopicsPrefix == "" || bridge.CheckTopic(b.TopicsPrefix) != nil || strings.Trim(b.TopicsPrefix, "/") != b.TopicsPrefix {
		faults.add(at+".topics_prefix", "%q is not a beginning of topics: no + or #, no / at its ends; write it like devices", b.TopicsPrefix)
	}
	if b.Share != "" && !bridge.ValidShare(b.Share) {
		faults.add(at+".share", "%q is not the name of a group: no /, + or #; write it like hubs", b.Share)
	}
	if b.StatusTopic == "" {
		return
	}
	if err := bridge.CheckStatusTopic(b.StatusTopic, b.TopicsPrefix); err != nil {
		faults.add(at+".status_topic", "%v", err)
	}
}

// validateBounds checks how much and how long.
func (b BrokerConfig) validateBounds(faults *faultList, at string) {
	within(faults, at+".max_inflight", b.MaxInflight, 1, bridge.MostExternalMessages)
	within(faults, at+".max_inflight_bytes", b.MaxInflightBytes, bridge.LeastExternalBytes, bridge.MostExternalBytes)
	within(faults, at+".max_payload", b.MaxPayload, minFrame, maxFrame)
	within(faults, at+".idle", b.Idle, time.Second, maxDuration)
	within(faults, at+".connect_timeout", b.ConnectTimeout, 100*time.Millisecond, 10*time.Minute)
	within(faults, at+".keepalive", b.Keepalive, time.Second, bridge.LongestKeepalive)
	within(faults, at+".retry_min", b.RetryMin, time.Millisecond, time.Hour)
	within(faults, at+".retry_max", b.RetryMax, max(b.RetryMin, time.Millisecond), 24*time.Hour)
}
