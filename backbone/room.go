package backbone

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Disk is how full a file system is, in bytes.
type Disk struct {
	Free uint64 // for this process
	Used uint64
}

// NoRoomError refuses an envelope because the disk's free space is below the reserve.
type NoRoomError struct{ Free, Reserve uint64 }

// Error implements error.
func (e *NoRoomError) Error() string {
	return fmt.Sprintf("the disk has %d MiB free and %d MiB are kept in reserve; make room, or lower ingest.disk_reserve", e.Free>>20, e.Reserve>>20)
}

// A nats-server that fails to write once answers nothing any more on that stream, until it is started again
// (filestore.go, setWriteErr). So envelopes, which are what grows, stop while there is room for all the rest: registry,
// ledger, presence, the writer's progress, and the store's own files.
const (
	reserveLeast = 64 << 20
	reserveShare = 50 // of the disk: 2 %
	// Once stopped, envelopes need an eighth of the reserve more, lest they stop again at once.
	reserveSlack = 8
)

// room says whether there is room for an envelope.
type room struct {
	dir     string // empty: another machine's disk
	reserve int64  // 0: as large as the disk suggests
	lacking atomic.Bool
}

// of returns how much of the disk is kept free, in bytes.
func (r *room) of(d Disk) uint64 {
	if r.reserve > 0 {
		return uint64(r.reserve)
	}
	return max(reserveLeast, (d.Free+d.Used)/reserveShare)
}

// check returns a NoRoomError while there is none. A disk that cannot be asked has room.
func (r *room) check() error {
	if r.dir == "" {
		return nil
	}
	d, err := DiskOf(r.dir)
	if err != nil {
		return nil
	}
	reserve := r.of(d)
	need := reserve
	if r.lacking.Load() {
		need += reserve / reserveSlack
	}
	lacking := d.Free < need
	r.lacking.Store(lacking)
	if lacking {
		return &NoRoomError{Free: d.Free, Reserve: reserve}
	}
	return nil
}

// roomyJetStream takes envelopes only while there is room.
type roomyJetStream struct {
	jetstream.JetStream
	room *room
}

// PublishMsg implements jetstream.JetStream.
func (j roomyJetStream) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if msg.Subject == JournalSubject {
		if err := j.room.check(); err != nil {
			return nil, err
		}
	}
	return j.JetStream.PublishMsg(ctx, msg, opts...)
}

// Publish implements jetstream.JetStream.
func (j roomyJetStream) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return j.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, opts...)
}

// Usage is what the journal takes, and what it may take, in bytes. Reserve is 0 with an external NATS.
type Usage struct{ Journal, Limit, Reserve uint64 }

// Usage asks how much room the journal takes.
func (b *Backbone) Usage(ctx context.Context) (Usage, error) {
	s, err := b.js.Stream(ctx, Journal)
	if err != nil {
		return Usage{}, fmt.Errorf("ask how large the journal is: %w", err)
	}
	info := s.CachedInfo()
	u := Usage{Journal: info.State.Bytes, Limit: uint64(max(0, info.Config.MaxBytes))}
	if b.room.dir != "" {
		if d, err := DiskOf(b.room.dir); err == nil {
			u.Reserve = b.room.of(d)
		}
	}
	return u, nil
}

// Room returns why no envelope is taken at present for lack of room on the disk.
func (b *Backbone) Room() error { return b.room.check() }

// IsFull reports whether a publish failed because the stream or the disk is full.
func IsFull(err error) bool {
	if _, ok := errors.AsType[*NoRoomError](err); ok {
		return true
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	const insufficientStorage, streamStoreFailed = 10047, 10077
	return api.ErrorCode == insufficientStorage || api.ErrorCode == streamStoreFailed
}
