package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"
)

const (
	atMostOnce  = 0
	atLeastOnce = 1
)

// publication is a telemetry frame that waits for its PUBACK.
type publication struct {
	token mqtt.Token
	boot  string
	seq   uint64
}

// mqttLink is a device's MQTT connection. Each connection has a paho client of its own that neither reconnects nor
// keeps a session: what is not acknowledged stays in the outbox, and is sent again with its boot and seq.
type mqttLink struct {
	device *device
	client mqtt.Client
	raw    *rawConn

	sent chan publication // in the order of sending
	down chan struct{}    // closed when the connection is gone
	once sync.Once

	cause atomic.Pointer[error]
}

func (d *dialer) connectMQTT(ctx context.Context, dev *device) (link, error) {
	l := &mqttLink{device: dev, sent: make(chan publication, 2*int(dev.out.window)+maxRoundFrames), down: make(chan struct{})}
	var failed error // opening it; paho keeps only its words
	open := func(*url.URL, mqtt.ClientOptions) (conn net.Conn, err error) {
		conn, l.raw, err = d.openMQTT(ctx, dev)
		failed = err
		return conn, err
	}
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + d.broker.Host). // TLS is made below, where faults are played
		SetClientID(dev.id).SetUsername(dev.id).SetPassword(dev.credentials.current()).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(mqttPing).SetPingTimeout(mqttPing / 2).SetConnectTimeout(dialTimeout).SetWriteTimeout(writeTimeout).
		SetOrderMatters(false). // a handler may then publish
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.lost(err) }).
		SetCustomOpenConnectionFn(open)
	if dev.certificate != nil {
		options.SetUsername("").SetPassword("")
	}
	l.client = mqtt.NewClient(options)
	if err := finished(ctx, l.client.Connect()); err != nil {
		l.client.Disconnect(0)
		if errors.Is(err, packets.ErrorRefusedServerUnavailable) { // all that 3.1.1 has to say, and no time
			return nil, &refusedError{status: http.StatusServiceUnavailable, detail: err.Error()}
		}
		return nil, fmt.Errorf("MQTT connect: %w", cmp.Or(failed, err))
	}
	return l, nil
}

// openMQTT opens what MQTT is spoken on: TLS on the broker's port, or a WebSocket on the hub's one port.
func (d *dialer) openMQTT(ctx context.Context, dev *device) (net.Conn, *rawConn, error) {
	if dev.fleet.options.Protocol == protocolMQTTWSS {
		ws, raw, err := d.openWebSocket(ctx, dev, "/mqtt", "mqtt")
		if err != nil {
			return nil, nil, err
		}
		return &binaryStream{Conn: ws}, raw, nil
	}
	plain := d.broker.Scheme == "tcp" || d.broker.Scheme == "mqtt"
	return d.dial(ctx, d.broker.Host, plain, dev)
}

// binaryStream is a WebSocket as paho wants it: bytes in binary messages. paho has one reader, and writes its pings from
// another goroutine than the rest.
type binaryStream struct {
	*websocket.Conn
	message io.Reader // nil between two
	writing sync.Mutex
}

// Read implements net.Conn.
func (s *binaryStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			_, r, err := s.NextReader()
			if err != nil {
				return 0, err
			}
			s.message = r
		}
		n, err := s.message.Read(p)
		if errors.Is(err, io.EOF) {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (s *binaryStream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline implements net.Conn.
func (s *binaryStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// finished waits for a token's end.
func finished(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *mqttLink) topic(leaf string) string { return "devices/" + l.device.id + "/" + leaf }

func (l *mqttLink) form() frameForm {
	form := formMQTT
	form.encoding, form.device = l.device.encoding(), l.device.id
	return form
}

func (l *mqttLink) telemetry(frames []outgoing) error {
	for _, frame := range frames {
		payload := append([]byte(nil), frame.payload...) // paho keeps it until the PUBACK
		published := publication{token: l.client.Publish(l.topic("telemetry"), atLeastOnce, false, payload), boot: frame.boot, seq: frame.seq}
		select {
		case l.sent <- published:
		case <-l.down:
			return l.why()
		}
	}
	return nil
}

func (l *mqttLink) answer(payload []byte) error {
	token := l.client.Publish(l.topic("response"), atLeastOnce, false, payload)
	select {
	case <-token.Done():
		return token.Error()
	case <-l.down:
		return l.why()
	}
}

func (l *mqttLink) inject(telemetry []byte, quiet bool) error {
	qos := byte(atLeastOnce)
	if quiet {
		qos = atMostOnce
	}
	l.client.Publish(l.topic("telemetry"), qos, false, telemetry) // whether it arrives is not ours to know
	return nil
}

// run subscribes to commands, and then turns PUBACKs into acknowledgements until the connection ends.
func (l *mqttLink) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	defer l.client.Disconnect(0)
	subscribing, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	topics := map[string]byte{l.topic("command"): atLeastOnce}
	if l.device.fleet.options.State {
		topics[l.topic("desired")] = atLeastOnce
	}
	if err := finished(subscribing, l.client.SubscribeMultiple(topics, l.message)); err != nil {
		l.end(fmt.Errorf("subscribe to commands: %w", err))
		l.raw.cut()
		return l.why()
	}
	if !l.device.enrolment.await(subscribing, l.down) {
		l.end(errors.New("hub.credentials did not come"))
		l.raw.cut()
		return l.why()
	}
	l.device.ready(l, 0)
	l.device.desired(l, desiredState{}, true)
	for {
		select {
		case published := <-l.sent:
			select {
			case <-published.token.Done():
				if published.token.Error() == nil {
					l.device.acked(published.boot, published.seq)
				}
			case <-l.down:
				return l.why()
			}
		case <-l.down:
			return l.why()
		}
	}
}

// state does not wait for the PUBACK: a state that is lost is reported again with the next connection.
func (l *mqttLink) state(reported []byte) error {
	l.client.Publish(l.topic("state"), atLeastOnce, false, reported)
	return nil
}

// message takes what comes on the device's topics.
func (l *mqttLink) message(client mqtt.Client, message mqtt.Message) {
	if message.Topic() == l.topic("desired") {
		l.device.desiredFrame(l, message.Payload())
		return
	}
	l.command(client, message)
}

func (l *mqttLink) command(_ mqtt.Client, message mqtt.Message) {
	var in incoming
	if err := json.Unmarshal(message.Payload(), &in); err != nil {
		l.device.fleet.tally.note("the hub sent a command that is not JSON-RPC", err)
		return
	}
	l.device.frame(l, in)
}

func (l *mqttLink) lost(err error) {
	if err == nil {
		err = errors.New("connection lost")
	}
	l.end(err)
}

// end notes the first cause, and wakes whoever waits on the connection.
func (l *mqttLink) end(cause error) {
	l.cause.CompareAndSwap(nil, &cause)
	l.once.Do(func() { close(l.down) })
}

func (l *mqttLink) why() error { return *l.cause.Load() }

func (l *mqttLink) close() { l.goodbye(errFinished) }

func (l *mqttLink) restart() { l.goodbye(errRebooted) }

func (l *mqttLink) goodbye(cause error) {
	l.client.Disconnect(100) // ms for what is under way
	l.end(cause)
}

func (l *mqttLink) cut(cause error) {
	l.end(cause)
	l.raw.cut()
}

func (l *mqttLink) abandon() {
	l.end(errAbandoned)
	l.raw.abandon()
}
