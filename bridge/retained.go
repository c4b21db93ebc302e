package bridge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// retained keeps the last retained message of each granted topic, in a bucket and as a copy in memory.
type retained struct {
	kv           jetstream.KeyValue // nil: in memory only
	mostMessages int
	mostBytes    int
	ctx          context.Context // ends when a stop has no more time
	log          *slog.Logger

	writing  sync.Mutex      // of the bucket, one at a time: what it has last is what was published last
	doubtful map[string]bool // topics whose write failed: the bucket may have them all the same. Needs writing
	allDoubt bool            // more than are remembered may be so. Needs writing
	removed  int             // since the bucket was rid of the markers that this leaves. Needs writing

	mu    sync.Mutex
	kept  map[string]*letter
	bytes int
}

// retainTimeout bounds how long a device waits until its retained message is durable.
const retainTimeout = 10 * time.Second

const (
	purgeEach    = 1000 // removed messages after which their markers go
	mostDoubtful = 1000 // topics that are remembered one by one
)

// storedLetter is a retained message in the bucket.
type storedLetter struct {
	Topic       string      `json:"topic"`
	Payload     []byte      `json:"payload"`
	QoS         byte        `json:"qos,omitempty"`
	Expires     int64       `json:"expires,omitempty"` // ms since the epoch; 0: never
	Text        bool        `json:"text,omitempty"`
	ContentType string      `json:"content_type,omitempty"`
	Response    string      `json:"response_topic,omitempty"`
	Correlation []byte      `json:"correlation,omitempty"`
	User        [][2]string `json:"user,omitempty"`
}

// openRetained reads what the bucket keeps.
func openRetained(ctx context.Context, kv jetstream.KeyValue, cfg BrokerConfig, log *slog.Logger) (*retained, error) {
	r := &retained{kv: kv, mostMessages: cfg.MaxRetained, mostBytes: cfg.MaxRetainedBytes, ctx: ctx, log: log, kept: map[string]*letter{}, doubtful: map[string]bool{}}
	if kv == nil {
		return r, nil
	}
	watcher, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read retained messages: %w", err)
	}
	for entry := range watcher.Updates() {
		if entry == nil {
			if err := watcher.Stop(); err != nil {
				return nil, fmt.Errorf("read retained messages: %w", err)
			}
			r.purge(ctx)
			return r, nil
		}
		var s storedLetter
		if err := json.Unmarshal(entry.Value(), &s); err != nil || retainedKey(s.Topic) != entry.Key() {
			log.Error("retained message cannot be read and is left out", "key", entry.Key(), "err", err)
			continue
		}
		r.keep(s.Topic, s.letter())
	}
	return nil, errors.New("read retained messages: the bucket's watch ended")
}

// retainedKey is the bucket's key of a topic. It holds no dot, star or space.
func retainedKey(topic string) string { return base64.RawURLEncoding.EncodeToString([]byte(topic)) }

// put keeps a message in the place of the one before, an empty one in none, and returns once that is durable. An error
// that is no *refusal says that it is not.
func (r *retained) put(l *letter) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if len(l.payload) == 0 { // [MQTT-3.3.1-6, 3.3.1-7]
		return r.remove(l.topic)
	}
	count, size := r.with(l)
	if count > r.mostMessages || size > r.mostBytes {
		r.removeExpired()
		count, size = r.with(l)
	}
	switch {
	case count > r.mostMessages:
		return &refusal{
			reason: ReasonRetainedFull, code: codeQuotaExceeded, limit: int64(r.mostMessages), value: int64(count),
			message: fmt.Sprintf("%d messages are retained already; an empty retained message removes one", r.mostMessages),
		}
	case size > r.mostBytes:
		return &refusal{
			reason: ReasonRetainedFull, code: codeQuotaExceeded, limit: int64(r.mostBytes), value: int64(size),
			message: fmt.Sprintf("all that is retained would have %d bytes; the limit is %d", size, r.mostBytes),
		}
	}
	value, err := json.Marshal(storedOf(l))
	if err != nil {
		return fmt.Errorf("retain a message: %w", err)
	}
	if err := r.write(r.ctx, func(ctx context.Context) error { _, err := r.kv.Put(ctx, retainedKey(l.topic), value); return err }); err != nil {
		r.doubt(l.topic)
		return err
	}
	delete(r.doubtful, l.topic)
	r.keep(l.topic, l)
	return nil
}

// with returns how much would be kept with l in the place of the one before.
func (r *retained) with(l *letter) (count, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	count, size = len(r.kept)+1, r.bytes+l.size()
	if before, had := r.kept[l.topic]; had {
		count, size = count-1, size-before.size()
	}
	return count, size
}

// keep puts l in the place of the one before; nil: in none.
func (r *retained) keep(topic string, l *letter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, had := r.kept[topic]; had {
		r.bytes -= before.size()
		delete(r.kept, topic)
	}
	if l != nil {
		r.kept[topic] = l
		r.bytes += l.size()
	}
}

// remove needs writing.
func (r *retained) remove(topic string) error {
	r.mu.Lock()
	_, had := r.kept[topic]
	r.mu.Unlock()
	if !had && !r.doubtful[topic] && !r.allDoubt {
		return nil
	}
	if err := r.write(r.ctx, func(ctx context.Context) error { return r.kv.Delete(ctx, retainedKey(topic)) }); err != nil {
		return err
	}
	delete(r.doubtful, topic)
	r.keep(topic, nil)
	if r.removed++; r.removed >= purgeEach {
		r.purge(r.ctx)
	}
	return nil
}

// doubt notes that a write failed that may be in the bucket: one that timed out was written, perhaps. It needs writing.
func (r *retained) doubt(topic string) {
	r.doubtful[topic] = true
	if len(r.doubtful) > mostDoubtful {
		clear(r.doubtful)
		r.allDoubt = true // until the next start, removing costs a write whatever is known of the topic
	}
}

// purge rids the bucket of the markers that removed messages leave there: each topic ever used would have one. It needs
// writing, or what is put meanwhile would go with the marker before it. A failure is told and no more: the next purge
// finds them too.
func (r *retained) purge(ctx context.Context) {
	r.removed = 0
	if err := r.write(ctx, func(ctx context.Context) error {
		return r.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1))
	}); err != nil {
		r.log.Warn("markers of removed retained messages stay in the bucket", "err", err)
	}
}

// removeExpired makes room. It needs writing.
func (r *retained) removeExpired() {
	now := time.Now()
	var late []string
	r.mu.Lock()
	for topic, l := range r.kept {
		if l.expired(now) {
			late = append(late, topic)
		}
	}
	r.mu.Unlock()
	for _, topic := range late {
		if r.remove(topic) != nil {
			return // the message that needs the room says so
		}
	}
}

// write changes the bucket, where there is one.
func (r *retained) write(ctx context.Context, change func(ctx context.Context) error) error {
	if r.kv == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, retainTimeout)
	defer cancel()
	if err := change(ctx); err != nil {
		return fmt.Errorf("retain a message: %w", err)
	}
	return nil
}

// matching returns what is retained for a subscription, the flag set [MQTT-3.3.1-8].
func (r *retained) matching(s subscription) (all []delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for topic, l := range r.kept {
		if !topicMatches(s.filter, topic) || l.expired(now) {
			continue
		}
		d := delivery{letter: l, qos: min(l.qos, s.qos), retain: true, filter: s.filter}
		if s.identifier > 0 {
			d.identifiers = []int{s.identifier}
		}
		all = append(all, d)
	}
	return all
}

// amount returns how many messages are kept, and their bytes.
func (r *retained) amount() (messages, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept), r.bytes
}

func storedOf(l *letter) storedLetter {
	s := storedLetter{Topic: l.topic, Payload: l.payload, QoS: l.qos}
	if !l.expires.IsZero() {
		s.Expires = l.expires.UnixMilli()
	}
	if e := l.extras; e != nil {
		s.Text, s.ContentType, s.Response, s.Correlation = e.text, e.contentType, e.response, e.correlation
		for _, u := range e.user {
			s.User = append(s.User, [2]string{u.key, u.value})
		}
	}
	return s
}

func (s storedLetter) letter() *letter {
	l := &letter{message: message{topic: s.Topic, payload: s.Payload, qos: s.QoS, retained: true}}
	if s.Expires > 0 {
		l.expires = time.UnixMilli(s.Expires)
	}
	if s.Text || s.ContentType != "" || s.Response != "" || s.Correlation != nil || s.User != nil {
		l.extras = &extras{text: s.Text, contentType: s.ContentType, response: s.Response, correlation: s.Correlation}
		for _, u := range s.User {
			l.extras.user = append(l.extras.user, userProperty{u[0], u[1]})
		}
	}
	return l
}
