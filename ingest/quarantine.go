package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
)

// Quarantined is one reading that could not be stored.
type Quarantined struct {
	ID       uint64    `json:"-"`                 // its place in the quarantine
	Device   string    `json:"device"`            //
	Reason   string    `json:"reason"`            // one of wire's reasons
	Message  string    `json:"message,omitempty"` // the store's own words
	Boot     string    `json:"boot,omitempty"`
	Seq      uint64    `json:"seq,omitempty"`
	Received time.Time `json:"received"`
	Frame    string    `json:"-"` // the reading as it came (JSON), or the line that the store rejected

	at asideKey
}

// reasonDamaged is the reason of readings that were in an envelope which cannot be read.
const reasonDamaged = "damaged"

// asideKey names a quarantined reading by its place in the journal: the envelope's sequence and the how manyth reading
// of it. One that is set aside again after a crash is recognized by it.
type asideKey struct{ sequence, reading uint64 }

// quarantine keeps each reading as one message: Frame is its data, the rest a header. So a frame that the journal took
// always fits, whatever is in it.
type quarantine struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	most   int // bytes of the largest frame
}

// quarantineHeader names the header that says whose a frame is and why it is here, as JSON.
const quarantineHeader = "Hub-Quarantined"

// longestMessage bounds the store's words, in bytes; the journal's margin leaves room for them.
const longestMessage = 1 << 10

// message returns the message that keeps r.
func (q *quarantine) message(r Quarantined) (*nats.Msg, error) {
	r.Message = clip(r.Message, longestMessage)
	if len(r.Frame) > q.most { // a line can be longer than the readings that it was made from
		r.Message = clip(fmt.Sprintf("of %d bytes the first %d are kept; %s", len(r.Frame), q.most, r.Message), longestMessage)
		r.Frame = clip(r.Frame, q.most)
	}
	about, err := json.Marshal(&r)
	if err != nil {
		return nil, fmt.Errorf("encode a quarantined reading: %w", err)
	}
	msg := nats.NewMsg(backbone.QuarantineSubject)
	msg.Data = []byte(r.Frame)
	msg.Header.Set(quarantineHeader, string(about))
	return msg, nil
}

// clip cuts text to most bytes, and not within a character.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// put keeps what was set aside; it tries until that succeeds or hard ends.
func (q *quarantine) put(hard context.Context, aside []Quarantined) error {
	for i := range aside {
		msg, err := q.message(aside[i])
		if err != nil {
			return err
		}
		id := fmt.Sprintf("%d-%d", aside[i].at.sequence, aside[i].at.reading)
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			_, err = q.js.PublishMsg(hard, msg, jetstream.WithMsgID(id))
			if err == nil {
				break
			}
			select {
			case <-time.After(pause):
			case <-hard.Done():
				return fmt.Errorf("quarantine a reading: %w", err)
			}
		}
	}
	return nil
}

// list returns up to limit readings before id, the newest first; id 0 is the end.
func (q *quarantine) list(ctx context.Context, before uint64, limit int) (items []Quarantined, next uint64, err error) {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the quarantine: %w", err)
	}
	if before == 0 || before > info.State.LastSeq {
		before = info.State.LastSeq + 1
	}
	for id := before - 1; id >= max(info.State.FirstSeq, 1); id-- {
		if len(items) == limit {
			return items, id + 1, nil
		}
		msg, err := q.stream.GetMsg(ctx, id)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the quarantine: %w", err)
		}
		item := Quarantined{ID: id, Frame: string(msg.Data)}
		if err := json.Unmarshal([]byte(msg.Header.Get(quarantineHeader)), &item); err != nil {
			return nil, 0, fmt.Errorf("read the quarantine: item %d: %w", id, err)
		}
		items = append(items, item)
	}
	return items, 0, nil
}
