package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// flippedBit flips bits in the journal while its readings are nowhere else: the store is away. The rest is read, and
// what was in the damaged envelope is counted as quarantined, so that the account adds up.
func flippedBit(ctx context.Context, s *scene) error {
	if err := s.withInfluxDB(ctx, 5*time.Second); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 20, rate: 20})
	if err != nil {
		return err
	}
	flips := 0
	received := uint64(0)
	for round := range scale(s.lab, 2, 20) {
		s.proxy.play(func(w *write) { w.refuse(http.StatusServiceUnavailable, "away") })
		if received, err = s.hub.received(ctx, received+2000); err != nil {
			return err
		}
		if round%2 == 0 {
			err = s.hub.stop()
		} else {
			err = s.hub.crash()
		}
		if err != nil {
			return err
		}
		where, err := flip(filepath.Join(s.hub.data, "jetstream", "jetstream", "$G", "streams", "JOURNAL", "msgs", "*.blk"))
		if err != nil {
			return err
		}
		s.lab.say("flipped-bit: %s", where)
		flips++
		if err := s.hub.start(ctx); err != nil {
			return fmt.Errorf("start on a damaged journal: %w", err)
		}
		s.proxy.play(nil)
		if _, err := s.settled(ctx); err != nil {
			return err
		}
	}
	s.happened("flipped", flips)
	if err := m.finish(); err != nil {
		return err
	}
	s.aside = func(ctx context.Context) error {
		a, err := s.hub.audit(ctx)
		if err != nil {
			return err
		}
		s.named = a.Total.Quarantined // nothing else is
		s.happened("damaged", int(s.named))
		return nil
	}
	return s.conclude(ctx, m)
}

// flip flips one bit in the newer half of the newest file, where the readings are that no store has, and says where.
func flip(pattern string) (string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no file %s: %w", pattern, err)
	}
	file := files[len(files)-1]
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("flip a bit: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("flip a bit: %w", err)
	}
	at := info.Size() - 1 - rand.Int64N(min(info.Size(), 60_000))
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, at); err != nil {
		return "", fmt.Errorf("flip a bit: %w", err)
	}
	one[0] ^= 1 << rand.IntN(8)
	if _, err := f.WriteAt(one, at); err != nil {
		return "", fmt.Errorf("flip a bit: %w", err)
	}
	return fmt.Sprintf("%s byte %d of %d", filepath.Base(file), at, info.Size()), nil
}
