package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
)

// Quarantined is one reading that could not be stored.
type Quarantined struct {
	ID          uint64    `json:"id,omitempty"`      // its place in the quarantine when it first came there
	Device      string    `json:"device"`            //
	Reason      string    `json:"reason"`            // one of wire's reasons
	Message     string    `json:"message,omitempty"` // the store's own words
	Measurement string    `json:"measurement,omitempty"`
	Boot        string    `json:"boot,omitempty"`
	Seq         uint64    `json:"seq,omitempty"`
	Received    time.Time `json:"received"`
	Count       uint64    `json:"count,omitempty"` // readings that it stands for; 0 is 1
	Frame       string    `json:"-"`               // the reading as it came (JSON), or the line that the store rejected

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

	// What was put after the writer's progress was saved, before this start. NATS's own window of duplicates may have
	// passed since then.
	there map[asideKey]bool
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
	if r.ID > 0 {
		msg.Subject = retriedSubject(r.ID)
	}
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
		if q.there[aside[i].at] {
			continue
		}
		msg, err := q.message(aside[i])
		if err != nil {
			return err
		}
		id := aside[i].at.String()
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

// Filter chooses among quarantined readings; what is empty chooses all.
type Filter struct{ Device, Reason string }

func (f Filter) takes(r *Quarantined) bool {
	return (f.Device == "" || f.Device == r.Device) && (f.Reason == "" || f.Reason == r.Reason)
}

// listScan bounds how many places of the quarantine one page looks at: a page may hold less than its limit, or nothing,
// and there is more all the same.
const listScan = 20_000

// list returns up to limit readings before a place in the quarantine, the newest first; place 0 is the end.
func (q *quarantine) list(ctx context.Context, f Filter, before uint64, limit int) (items []Quarantined, next uint64, err error) {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the quarantine: %w", err)
	}
	if before == 0 || before > info.State.LastSeq {
		before = info.State.LastSeq + 1
	}
	scanned := 0
	for place := before - 1; place >= max(info.State.FirstSeq, 1); place-- {
		if len(items) == limit || scanned == listScan {
			return items, place + 1, nil
		}
		scanned++
		msg, err := q.stream.GetMsg(ctx, place)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the quarantine: %w", err)
		}
		item, err := readQuarantined(msg)
		if err != nil {
			return nil, 0, err
		}
		if f.takes(&item) {
			items = append(items, item)
		}
	}
	return items, 0, nil
}

func readQuarantined(msg *jetstream.RawStreamMsg) (Quarantined, error) {
	item := Quarantined{ID: msg.Sequence, Frame: string(msg.Data)}
	if err := json.Unmarshal([]byte(msg.Header.Get(quarantineHeader)), &item); err != nil {
		return item, fmt.Errorf("read the quarantine: item %d: %w", msg.Sequence, err)
	}
	item.Count = max(item.Count, 1)
	item.at = placeOf(msg)
	return item, nil
}

// placeOf returns whence a message's reading came: its message id says so.
func placeOf(msg *jetstream.RawStreamMsg) (k asideKey) {
	sequence, reading, _ := strings.Cut(msg.Header.Get(nats.MsgIdHdr), "-")
	var err error
	if k.sequence, err = strconv.ParseUint(sequence, 10, 64); err != nil {
		return asideKey{}
	}
	if k.reading, err = strconv.ParseUint(reading, 10, 64); err != nil {
		return asideKey{}
	}
	return k
}

// String is the place as a message id.
func (k asideKey) String() string { return fmt.Sprintf("%d-%d", k.sequence, k.reading) }

// recall notes what was put from places after position: the writer comes to them again.
func (q *quarantine) recall(ctx context.Context, position uint64) error {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("read the quarantine: %w", err)
	}
	q.there = map[asideKey]bool{}
	for place := info.State.LastSeq; place >= max(info.State.FirstSeq, 1); place-- {
		msg, err := q.stream.GetMsg(ctx, place)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the quarantine: %w", err)
		}
		at := placeOf(msg)
		if at.sequence <= position {
			break // they stand in the order of the journal
		}
		q.there[at] = true
	}
	return nil
}

// places notes the places, from a sequence of the journal on, of what is in the quarantine.
func (q *quarantine) places(ctx context.Context, from uint64, into map[asideKey]bool) error {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("read the quarantine: %w", err)
	}
	for place := info.State.LastSeq; place >= max(info.State.FirstSeq, 1); place-- {
		msg, err := q.stream.GetMsg(ctx, place)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the quarantine: %w", err)
		}
		at := placeOf(msg)
		into[at] = true
		// Within a batch they may stand in another order than in the journal; one batch is far below this.
		if at.sequence > 0 && at.sequence+placesSlack < from {
			break
		}
	}
	return nil
}

// placesSlack is more envelopes than a batch can have.
const placesSlack = 100_000

// A reading that failed again is kept anew, with the new reason and its old id, under a subject of its own; then the
// older message goes.

func retriedSubject(id uint64) string { return fmt.Sprintf("quarantine.%d", id) }

// get returns one reading; ErrNotQuarantined when it is not there.
func (q *quarantine) get(ctx context.Context, id uint64) (Quarantined, error) {
	msg, err := q.stream.GetLastMsgForSubject(ctx, retriedSubject(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		msg, err = q.stream.GetMsg(ctx, id)
	}
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Quarantined{}, ErrNotQuarantined
	case err != nil:
		return Quarantined{}, fmt.Errorf("read the quarantine: %w", err)
	}
	item, err := readQuarantined(msg)
	if err == nil && item.ID != id {
		return Quarantined{}, ErrNotQuarantined // the place of another one's later try
	}
	return item, err
}

// gave says whether the quarantine ever had that place.
func (q *quarantine) gave(ctx context.Context, id uint64) (bool, error) {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("read the quarantine: %w", err)
	}
	return id > 0 && id <= info.State.LastSeq, nil
}

// remove takes the reading out; its newest message stays if it failed again.
func (q *quarantine) remove(ctx context.Context, id uint64, failedAgain bool) error {
	of := jetstream.WithPurgeSubject(retriedSubject(id))
	purge := []jetstream.StreamPurgeOpt{of}
	if failedAgain {
		purge = append(purge, jetstream.WithPurgeKeep(1))
	}
	if err := q.stream.Purge(ctx, purge...); err != nil {
		return fmt.Errorf("take out of the quarantine: %w", err)
	}
	msg, err := q.stream.GetMsg(ctx, id)
	if err == nil && msg.Subject == backbone.QuarantineSubject {
		err = q.stream.DeleteMsg(ctx, id)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("take out of the quarantine: %w", err)
	}
	return nil
}
