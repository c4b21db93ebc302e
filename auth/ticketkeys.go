package auth

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// ticketKeyPeriod is how long new tickets are encrypted with one key.
	ticketKeyPeriod = 24 * time.Hour
	// ticketLife is how long a ticket may be used (RFC 8446 section 4.6.1: at most seven days).
	ticketLife = 7 * 24 * time.Hour
	// ticketKeysKept is how long a key can be needed: until the last ticket of its period is over.
	ticketKeysKept = ticketLife + ticketKeyPeriod
	// ticketKeyRetry is when to try again if the bucket cannot be asked.
	ticketKeyRetry = time.Minute

	ticketKeyDay = "2006-01-02" // a key is named by its day, UTC
)

// TicketKeys are the keys with which TLS session tickets are encrypted: one a day, each kept until the tickets of its day
// are over. They are in a bucket rather than in a file, so that all hubs on one NATS have the same ones, and a device
// resumes its session at whichever it comes to, before and after a restart.
//
// Who knows the keys can pretend to be any device whose session he has made up, so they are as secret as the bucket of
// devices, from which he could do the same. A resumed session proves nothing by itself: certificates are checked anew.
type TicketKeys struct {
	kv  jetstream.KeyValue
	log *slog.Logger
	// holder encrypts for all listeners: http.Server works on a copy of its configuration, whose keys could not be changed.
	holder *tls.Config
}

// OpenTicketKeys reads the keys from their bucket, and makes that of today unless it is there.
func OpenTicketKeys(ctx context.Context, kv jetstream.KeyValue, log *slog.Logger) (*TicketKeys, error) {
	k := &TicketKeys{kv: kv, log: log, holder: &tls.Config{}} //nolint:gosec // G402: it makes no connections
	return k, k.rotate(ctx, time.Now())
}

// Use makes a listener's configuration encrypt its tickets with these keys.
func (k *TicketKeys) Use(c *tls.Config) {
	c.WrapSession = k.holder.EncryptTicket
	c.UnwrapSession = k.holder.DecryptTicket
}

// Run changes the key each day until ctx ends. If the bucket cannot be asked, the key of the day before goes on.
func (k *TicketKeys) Run(ctx context.Context) {
	timer := time.NewTimer(untilTomorrow(time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := ticketKeyRetry
		if err := k.rotate(ctx, time.Now()); err == nil {
			next = untilTomorrow(time.Now())
		} else if ctx.Err() == nil {
			k.log.Warn("key of TLS session tickets not changed", "error", err)
		}
		timer.Reset(next)
	}
}

func untilTomorrow(now time.Time) time.Duration {
	return now.Truncate(ticketKeyPeriod).Add(ticketKeyPeriod).Sub(now)
}

// rotate puts to use the keys of today and of the days before.
func (k *TicketKeys) rotate(ctx context.Context, now time.Time) error {
	today, err := k.today(ctx, now)
	if err != nil {
		return fmt.Errorf("keys of TLS session tickets: %w", err)
	}
	names, err := k.kv.Keys(ctx)
	if err != nil {
		return fmt.Errorf("keys of TLS session tickets: %w", err)
	}
	slices.Sort(names)
	slices.Reverse(names) // the newest is the likeliest
	keys := [][32]byte{today}
	for _, name := range names {
		day, err := time.Parse(ticketKeyDay, name)
		if err != nil || day.Format(ticketKeyDay) == now.UTC().Format(ticketKeyDay) || now.Sub(day) > ticketKeysKept {
			continue
		}
		key, err := k.read(ctx, name)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // its time ended just now
		}
		if err != nil {
			return fmt.Errorf("keys of TLS session tickets: %w", err)
		}
		keys = append(keys, key)
	}
	k.holder.SetSessionTicketKeys(keys)
	return nil
}

// today returns the key of a day. Of several hubs that make it at once, the first one's counts for all.
func (k *TicketKeys) today(ctx context.Context, now time.Time) (key [32]byte, err error) {
	name := now.UTC().Format(ticketKeyDay)
	key, err = k.read(ctx, name)
	if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return key, err
	}
	if _, err := rand.Read(key[:]); err != nil {
		return key, err
	}
	if _, err = k.kv.Create(ctx, name, key[:]); errors.Is(err, jetstream.ErrKeyExists) {
		return k.read(ctx, name)
	}
	return key, err
}

func (k *TicketKeys) read(ctx context.Context, name string) (key [32]byte, err error) {
	entry, err := k.kv.Get(ctx, name)
	if err != nil {
		return key, err
	}
	if len(entry.Value()) != len(key) {
		return key, fmt.Errorf("%s: %d bytes instead of %d", name, len(entry.Value()), len(key))
	}
	copy(key[:], entry.Value())
	return key, nil
}
