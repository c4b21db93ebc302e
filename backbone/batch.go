package backbone

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of an atomic batch (NATS ADR-50), which nats.go has no words for.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// LargestBatch is how many records one commit takes.
const LargestBatch = 500

// errNoBatch says that the server took the records one by one, or not at all: it is older than 2.12.
var errNoBatch = errors.New("the nats server has no atomic batches")

// Batch writes many records of a bucket in one commit, which is one fsync.
type Batch struct {
	conn   *nats.Conn
	prefix string
}

// Batch returns what writes a bucket's records in batches. The bucket is one of those that Open declared for it.
func (b *Backbone) Batch(bucket string) *Batch {
	return &Batch{conn: b.conn, prefix: "$KV." + bucket + "."}
}

// PutAll writes all records, each if its key is still at that revision (0: it is not there), and returns the revision of
// the last; the others have those before it. After an error it is not known what was written: all, nothing, or with
// a server older than 2.12 some.
func (b *Batch) PutAll(ctx context.Context, keys []string, values [][]byte, revisions []uint64) (last uint64, err error) {
	if len(keys) == 0 || len(keys) > LargestBatch {
		return 0, fmt.Errorf("a batch of %d records; 1 to %d are taken", len(keys), LargestBatch)
	}
	id := rand.Text()
	for i, key := range keys {
		m := nats.NewMsg(b.prefix + key)
		m.Data = values[i]
		m.Header.Set(headerBatchID, id)
		m.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revisions[i], 10))
		if i < len(keys)-1 {
			if err := b.conn.PublishMsg(m); err != nil {
				return 0, fmt.Errorf("write a batch: %w", err)
			}
			continue
		}
		m.Header.Set(headerBatchCommit, "1")
		answer, err := b.conn.RequestMsgWithContext(ctx, m)
		if err != nil {
			return 0, fmt.Errorf("commit a batch: %w", err)
		}
		return committed(answer.Data, id, len(keys))
	}
	return 0, nil
}

// committed reads the server's answer to a commit.
func committed(answer []byte, id string, records int) (last uint64, err error) {
	var ack struct {
		Seq   uint64              `json:"seq"`
		Batch string              `json:"batch"`
		Count int                 `json:"count"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return 0, fmt.Errorf("commit a batch: the answer is not understood: %w", err)
	}
	switch {
	case ack.Error != nil:
		return 0, fmt.Errorf("commit a batch: %w", ack.Error)
	case ack.Batch != id || ack.Count != records:
		return 0, errNoBatch
	}
	return ack.Seq, nil
}

// allowBatches lets a bucket's records be written in batches. An older server does not know the word and refuses it, or
// forgets it; PutAll then fails and its caller writes one by one.
func allowBatches(ctx context.Context, js jetstream.JetStream, bucket string) error {
	stream, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowAtomicPublish = true
	_, err = js.UpdateStream(ctx, cfg)
	if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) {
		return nil
	}
	return err
}
