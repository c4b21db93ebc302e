package acts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Query chooses among acts; what is empty chooses all.
type Query struct {
	Actor, Device string
	Act           string // a whole one (device.create), or all of a kind (device)
	Outcome       string
	From, To      time.Time // From is inclusive, To exclusive
	Limit         int
	Cursor        string // what the page before returned as next
}

// ErrCursor refuses a cursor that the log never gave.
var ErrCursor = errors.New("not a cursor of the audit log")

func (q *Query) takes(a *Act) bool {
	switch {
	case q.Actor != "" && q.Actor != a.Actor,
		q.Device != "" && q.Device != a.Device,
		q.Outcome != "" && q.Outcome != a.Outcome,
		q.Act != "" && q.Act != a.Act && !strings.HasPrefix(a.Act, q.Act+"."),
		!q.From.IsZero() && a.Time.Before(q.From),
		!q.To.IsZero() && !a.Time.Before(q.To):
		return false
	}
	return true
}

// listScan bounds how many batches one page looks at: a page may hold less than its limit, or nothing, and there is more
// all the same.
const listScan = 5000

// List returns acts in the order in which they were written, the newest first, and the cursor of the next page ("" at the
// end). Errors: ErrCursor.
func (l *Log) List(ctx context.Context, q Query) (found []Act, next string, err error) {
	if q.Cursor == "" {
		l.flush(ctx)
	}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit log: %w", err)
	}
	place, below := info.State.LastSeq, maxBatch
	if q.Cursor != "" {
		if place, below, err = parseID(q.Cursor); err != nil {
			return nil, "", err
		}
	}
	cursor := ""
	for scanned := 0; place >= max(info.State.FirstSeq, 1); place, below = place-1, maxBatch {
		if scanned++; scanned > listScan {
			return found, makeID(place, maxBatch), nil
		}
		b, written, err := l.read(ctx, place)
		switch {
		case errors.Is(err, errUnreadable):
			continue
		case err != nil:
			return nil, "", fmt.Errorf("read the audit log: %w", err)
		case written.Before(q.From):
			return found, "", nil // an act is never later than its batch
		}
		for i, a := range slices.Backward(b.Acts) {
			if i >= below || !q.takes(&a) {
				continue
			}
			if len(found) == q.Limit {
				return found, cursor, nil
			}
			cursor = makeID(place, i)
			found = append(found, a)
		}
	}
	return found, "", nil
}

// Export calls yield with each act that was there when it began, the oldest first, until yield fails.
func (l *Log) Export(ctx context.Context, q Query, yield func(Act) error) error {
	l.flush(ctx)
	info, err := l.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	first, last := max(info.State.FirstSeq, 1), info.State.LastSeq
	if last < first {
		return nil
	}
	var failed error
	first += uint64(sort.Search(int(last-first+1), func(i int) bool { //nolint:gosec // a stream's length
		_, written, err := l.read(ctx, first+uint64(i)) //nolint:gosec // not negative
		if err != nil && !errors.Is(err, errUnreadable) {
			failed = err
		}
		return err != nil || !written.Before(q.From)
	}))
	if failed != nil {
		return fmt.Errorf("read the audit log: %w", failed)
	}
	for place := first; place <= last; place++ {
		b, _, err := l.read(ctx, place)
		if errors.Is(err, errUnreadable) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		for _, a := range b.Acts {
			if !q.takes(&a) {
				continue
			}
			if err := yield(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// errUnreadable says that a place of the log is empty, or damaged on disk.
var errUnreadable = errors.New("no batch can be read there")

// read returns a batch, whose acts have their ids, and when it was written.
func (l *Log) read(ctx context.Context, place uint64) (b batch, written time.Time, err error) {
	msg, err := l.stream.GetMsg(ctx, place)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return b, written, errUnreadable
	}
	if err != nil {
		return b, written, err
	}
	if err := json.Unmarshal(msg.Data, &b); err != nil {
		l.log.Error("audit log: a batch cannot be read", "place", place, "err", err)
		return b, written, errUnreadable
	}
	for i := range b.Acts {
		b.Acts[i].ID = makeID(place, i)
	}
	return b, msg.Time, nil
}

// An id is the place of a batch and the how manyth act of it.
func makeID(place uint64, i int) string { return fmt.Sprintf("%d-%d", place, i) }

func parseID(id string) (place uint64, i int, err error) {
	first, second, _ := strings.Cut(id, "-")
	place, err = strconv.ParseUint(first, 10, 63)
	if err != nil {
		return 0, 0, ErrCursor
	}
	n, err := strconv.ParseUint(second, 10, 16)
	if err != nil {
		return 0, 0, ErrCursor
	}
	return place, int(n), nil
}
