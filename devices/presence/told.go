package presence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mark is how far the telling has come: of each device the changes up to Version are told. As JSON it is a value of the
// presence bucket.
type mark struct {
	Receiver string `json:"receiver"` // a hash: an address may hold a secret
	Version  uint64 `json:"version"`
}

func (f *Follower) key() string { return "told-" + f.cfg.Name }

// load reads how far an earlier run has come. Another receiver begins at nothing.
func (f *Follower) load(ctx context.Context) error {
	sum := sha256.Sum256([]byte(f.cfg.Receiver))
	f.told.Receiver = hex.EncodeToString(sum[:8])
	e, err := f.kv.Get(ctx, f.key())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read how far presence was told: %w", err)
	}
	var was mark
	if json.Unmarshal(e.Value(), &was) == nil && was.Receiver == f.told.Receiver {
		f.told, f.saved = was, was
	}
	return nil
}

// save writes how far the telling has come. What could not be written is written the next time; a crash until then tells
// some changes twice.
func (f *Follower) save() {
	if f.told == f.saved {
		return
	}
	f.savedAt = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	value, err := json.Marshal(f.told)
	if err == nil {
		_, err = f.kv.Put(ctx, f.key(), value)
	}
	if err == nil {
		f.saved = f.told
	}
}
