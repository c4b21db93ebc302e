package devices

import (
	"net"
	"net/http"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// MQTT is the embedded broker, which serves the connections with subprotocol mqtt. Such a connection is no conn of ours:
// its session, its keepalive (MQTT's own) and its end at a stop are the broker's.
type MQTT interface {
	// ServeMQTT speaks MQTT on nc and returns when nc is closed. nc has two methods beside those of net.Conn: SayWhy takes
	// the close code of its end, and Proved is told when CONNECT has proved who the device is.
	ServeMQTT(nc net.Conn, from Caller) error
}

// Caller is who asked for a WebSocket that bears MQTT, as far as its request tells.
type Caller struct {
	Device string // whose credentials it had; "": it had none, and CONNECT must bear them
	Proof  Proof  // that they are
	Path   string // the device that the path names, "" if it names none
	Remote string // address
}

// subprotocolMQTT is MQTT 3.1.1 and 5 in binary messages [MQTT-6.0.0-3].
const subprotocolMQTT = "mqtt"

// PathMQTT is where MQTT's clients look for it by custom. Only MQTT is spoken there; on /connect it is one subprotocol
// among the others.
const PathMQTT = "/mqtt"

// BindMQTT names who speaks MQTT, before the first request. Without it the subprotocol is not known. The broker is closed
// before the Connector, which waits for its connections' goodbyes, and so is opened after it.
func (c *Connector) BindMQTT(broker MQTT) { c.mqtt = broker }

// leavesItToCONNECT reports whether a request without credentials may be let in: it chooses MQTT.
func (c *Connector) leavesItToCONNECT(r *http.Request, no *refusal) bool {
	if no.reason != reasonNoCredentials || !websocket.IsWebSocketUpgrade(r) {
		return false
	}
	protocol, _, _ := c.chooseSubprotocol(r)
	return protocol == subprotocolMQTT
}

// serveMQTT answers a request that chose MQTT and may be let in.
func (c *Connector) serveMQTT(w http.ResponseWriter, r *http.Request, device string, proof Proof) {
	ws := c.upgrade(w, r, subprotocolMQTT, device)
	if ws == nil {
		return
	}
	s := newStream(ws)
	c.mu.Lock()
	stopping := c.stopping // since it was asked, before the upgrade
	if !stopping {
		c.running.Add(1)
	}
	c.mu.Unlock()
	if stopping {
		s.SayWhy(wire.CloseRestart, c.admits.Leave().CloseReason())
		_ = s.Close() // finish closes the socket
		s.finish()
		return
	}
	if device == "" {
		s.owe()
	}
	go c.bearMQTT(s, Caller{Device: device, Proof: proof, Path: r.PathValue("device"), Remote: r.RemoteAddr})
}

// bearMQTT returns when the connection has ended.
func (c *Connector) bearMQTT(s *stream, from Caller) {
	defer c.running.Done()
	err := c.mqtt.ServeMQTT(s, from)
	s.finish()
	c.log.Debug("mqtt connection ended", "remote", from.Remote, "err", err)
}
