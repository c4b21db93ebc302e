// Command go is a complete device for the hub: one file and github.com/gorilla/websocket.
//
//	HUB=wss://hub.example:8443 CA=ca.pem DEVICE=node-01 TOKEN_FILE=node-01.token go run .
//
// Put your sensor into measure, your commands into perform. What it does beside: docs/devices.md.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	random "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	queueMost  = 10_000 // readings that are kept until they are acked; then the oldest is dropped
	flightMost = 500    // readings sent ahead of the acks
	batchMost  = 50     // readings a frame
	keptMost   = 64     // answers of commands

	firstPause   = time.Second // between two attempts to connect
	longestPause = time.Minute
	writeTimeout = 15 * time.Second
)

type reading struct {
	TS     int64          `json:"ts"` // ms
	Values map[string]any `json:"values"`
	seq    uint64
}

// frame is what the hub sends; of an answer to hello, Result.
type frame struct {
	ID      *string        `json:"id,omitempty"`
	Method  string         `json:"method,omitempty"`
	Expires int64          `json:"expires,omitempty"`
	Params  map[string]any `json:"params,omitempty"`
	Result  *struct {
		Ack       uint64 `json:"ack"`
		Keepalive int    `json:"keepalive_s"`
	} `json:"result,omitempty"`
	Error json.RawMessage `json:"error,omitempty"`
}

// device keeps readings until they are acked, over any number of connections.
type device struct {
	url, tokenFile string
	tls            *tls.Config

	boot    string // a new numbering with each start, as the queue is in memory
	news    chan struct{}
	answers map[string][]byte // of the last commands: one that comes again is not run again
	kept    []string          // their ids, the oldest first

	mu          sync.Mutex
	queue       []reading
	seq         uint64
	acked, sent uint64
	dropped     uint64
}

func newDevice(hub, id, tokenFile, caFile string) (*device, error) {
	d := &device{
		url: hub + "/connect/" + id, tokenFile: tokenFile, tls: &tls.Config{MinVersion: tls.VersionTLS12},
		boot: rand.Text(), news: make(chan struct{}, 1), answers: map[string][]byte{},
	}
	if caFile == "" {
		return d, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	d.tls.RootCAs = x509.NewCertPool()
	if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", caFile)
	}
	return d, nil
}

// record queues a reading. It is safe once acked has reached the number that is returned.
func (d *device) record(values map[string]any) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == queueMost {
		d.queue = d.queue[1:]
		d.dropped++
	}
	d.seq++
	d.queue = append(d.queue, reading{TS: time.Now().UnixMilli(), Values: values, seq: d.seq})
	d.tell()
	return d.seq
}

// tell wakes the sender.
func (d *device) tell() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// run holds a connection until ctx ends.
func (d *device) run(ctx context.Context) {
	attempt := 0
	for ctx.Err() == nil {
		welcomed, err := d.connection(ctx)
		if welcomed {
			attempt = 0
		}
		wait, advised := advice(err)
		if !advised { // full jitter: devices that were cut off together do not come back together
			wait = random.N(min(longestPause, firstPause<<min(attempt, 6))) //nolint:gosec // no secret
		}
		attempt++
		log.Printf("connection ended: %v; the next in %s", err, wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// refusedError is an upgrade that the hub refused.
type refusedError struct {
	status int
	after  time.Duration
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("refused: %d %s", e.status, http.StatusText(e.status))
}

// advice is when the hub said to come back.
func advice(err error) (time.Duration, bool) {
	if refused, ok := errors.AsType[*refusedError](err); ok {
		switch refused.status {
		case http.StatusUnauthorized, http.StatusForbidden: // nothing will change soon
			return longestPause, true
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return refused.after, true
		}
	}
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		return 0, false
	}
	switch closed.Code {
	case websocket.CloseServiceRestart, websocket.CloseTryAgainLater:
		var reason struct {
			Ms int64 `json:"retry_after_ms"`
		}
		err := json.Unmarshal([]byte(closed.Text), &reason)
		return time.Duration(reason.Ms) * time.Millisecond, err == nil
	case 4001, 4003, 4004:
		return longestPause, true
	}
	return 0, false
}

// connection makes one, and returns when it has ended.
func (d *device) connection(ctx context.Context) (welcomed bool, err error) {
	token, err := os.ReadFile(d.tokenFile)
	if err != nil {
		return false, err
	}
	dialer := websocket.Dialer{TLSClientConfig: d.tls, HandshakeTimeout: 20 * time.Second, Subprotocols: []string{"hub.v1+json"}}
	ws, resp, err := dialer.DialContext(ctx, d.url, http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}})
	if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
		defer func() { _ = resp.Body.Close() }()
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil {
			seconds = 1
		}
		return false, &refusedError{resp.StatusCode, time.Duration(seconds) * time.Second}
	}
	if err != nil {
		return false, err
	}
	l := &link{device: d, ws: ws, keepalive: 45 * time.Second}
	defer l.end()
	return l.serve()
}

// link is one connection.
type link struct {
	device    *device
	ws        *websocket.Conn
	keepalive time.Duration

	writing sync.Mutex // gorilla allows one writer
	over    chan struct{}
	sending sync.WaitGroup
}

func (l *link) end() {
	if l.over != nil {
		close(l.over)
	}
	_ = l.ws.Close()
	l.sending.Wait()
}

func (l *link) write(v any) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if text, ok := v.([]byte); ok {
		return l.ws.WriteMessage(websocket.TextMessage, text)
	}
	return l.ws.WriteJSON(v)
}

// alive moves the deadline: the hub pings what is silent, so nothing for two intervals is a dead connection.
func (l *link) alive() { _ = l.ws.SetReadDeadline(time.Now().Add(2 * l.keepalive)) }

func (l *link) serve() (welcomed bool, err error) {
	l.ws.SetReadLimit(1 << 20)
	pong := l.ws.PingHandler()
	l.ws.SetPingHandler(func(data string) error {
		l.alive()
		return pong(data)
	})
	l.alive()
	hello := map[string]any{"boot": l.device.boot, "time": time.Now().UnixMilli(), "firmware": "1.0", "model": "go", "methods": []string{"ping"}}
	if err := l.write(map[string]any{"id": "hello", "method": "hello", "params": hello}); err != nil {
		return false, err
	}
	for {
		var f frame
		if err := l.ws.ReadJSON(&f); err != nil {
			return welcomed, err
		}
		l.alive()
		switch {
		case f.Method != "":
			if answer := l.device.handle(f); answer != nil {
				if err := l.write(answer); err != nil {
					return welcomed, err
				}
			}
		case f.ID != nil && *f.ID == "hello" && f.Result != nil:
			welcomed = true
			l.keepalive = time.Duration(cmp.Or(f.Result.Keepalive, 45)) * time.Second
			l.device.resume(f.Result.Ack)
			l.over = make(chan struct{})
			l.sending.Go(l.send)
		case f.Error != nil:
			log.Printf("the hub refused: %s", f.Error)
		}
	}
}

// send sends what is queued until the connection is over.
func (l *link) send() {
	for {
		for batch := l.device.next(); len(batch) > 0; batch = l.device.next() {
			params := map[string]any{"boot": l.device.boot, "seq": batch[0].seq, "readings": batch}
			if l.write(map[string]any{"method": "telemetry", "params": params}) != nil {
				_ = l.ws.Close() // the reader ends, and says why
				return
			}
		}
		select {
		case <-l.device.news:
		case <-l.over:
			return
		}
	}
}

// next returns the readings of the next frame.
func (d *device) next() []reading {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, _ := slices.BinarySearchFunc(d.queue, d.sent+1, func(r reading, seq uint64) int { return cmp.Compare(r.seq, seq) })
	to, _ := slices.BinarySearchFunc(d.queue, d.acked+flightMost+1, func(r reading, seq uint64) int { return cmp.Compare(r.seq, seq) })
	to = min(to, from+batchMost)
	if from >= to {
		return nil
	}
	d.sent = d.queue[to-1].seq
	return slices.Clone(d.queue[from:to])
}

// resume begins a connection: what is not acked is sent again, in order.
func (d *device) resume(ack uint64) {
	d.takeAck(ack)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = d.acked
}

func (d *device) takeAck(seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acked = max(d.acked, seq)
	d.queue = slices.DeleteFunc(d.queue, func(r reading) bool { return r.seq <= d.acked })
	d.tell()
}

// handle returns the answer to a request of the hub; nil to a notification.
func (d *device) handle(f frame) []byte {
	switch f.Method {
	case "hub.ack":
		if seq, ok := f.Params["seq"].(float64); ok && f.Params["boot"] == d.boot {
			d.takeAck(uint64(seq))
		}
		return nil
	case "hub.notice":
		log.Printf("the hub says: %v", f.Params)
		return nil
	}
	if f.ID == nil {
		return nil
	}
	switch f.Method {
	case "hub.probe":
		return answer(*f.ID, map[string]any{}, 0, "")
	case "hub.credentials": // stored first, for the old one ends with the answer
		token, _ := f.Params["token"].(string)
		if err := storeToken(d.tokenFile, token); err != nil {
			return answer(*f.ID, nil, 1, err.Error())
		}
		return answer(*f.ID, map[string]any{}, 0, "")
	}
	if known, ok := d.answers[*f.ID]; ok {
		return known
	}
	said := perform(f)
	d.answers[*f.ID] = said
	if d.kept = append(d.kept, *f.ID); len(d.kept) > keptMost {
		delete(d.answers, d.kept[0])
		d.kept = d.kept[1:]
	}
	return said
}

// perform runs a command, once.
func perform(f frame) []byte {
	switch {
	case f.Expires != 0 && f.Expires < time.Now().UnixMilli():
		return answer(*f.ID, nil, -32050, "it came after its time")
	case f.Method == "ping":
		return answer(*f.ID, map[string]any{"pong": true}, 0, "")
	}
	return answer(*f.ID, nil, -32601, "no such method: "+f.Method)
}

func answer(id string, result any, code int, message string) []byte {
	a := map[string]any{"id": id, "result": result}
	if code != 0 {
		a = map[string]any{"id": id, "error": map[string]any{"code": code, "message": message}}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return answer(id, nil, 1, err.Error())
	}
	return text
}

// storeToken leaves the old token or the new one, whenever the power fails.
func storeToken(file, token string) error {
	f, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func measure(n uint64) map[string]any {
	return map[string]any{"Temp": 20 + random.Float64(), "n": n} //nolint:gosec // no secret
}

func main() {
	every, err := strconv.ParseFloat(cmp.Or(os.Getenv("EVERY"), "10"), 64) // s
	if err != nil {
		log.Fatal(err)
	}
	d, err := newDevice(os.Getenv("HUB"), os.Getenv("DEVICE"), os.Getenv("TOKEN_FILE"), os.Getenv("CA"))
	if err != nil {
		log.Fatal(err)
	}
	go d.run(context.Background())
	n := d.record(measure(1))
	for range time.Tick(time.Duration(every * float64(time.Second))) {
		n = d.record(measure(n + 1))
	}
}
