package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// flippedBit damages the files of the journal while its readings are nowhere else, the store being away: after a stop in
// order and after a kill, by one bit, which the hub puts right, and by a burst, which costs envelopes. The rest is read, and
// what was in the lost envelopes is counted as quarantined, so that the account adds up. One bit of each bucket, and of what
// the engine knows of its files, is flipped as well.
func flippedBit(ctx context.Context, s *scene) error {
	if err := s.withInfluxDB(ctx, 5*time.Second); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 20, rate: 20})
	if err != nil {
		return err
	}
	flips, bursts := 0, 0
	received := uint64(0)
	for round := range scale(s.lab, 4, 40) {
		s.proxy.play(func(w *write) { w.refuse(http.StatusServiceUnavailable, "away") })
		if received, err = s.hub.received(ctx, received+1000); err != nil {
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
		burst := round%4 >= 2
		where, err := s.hub.damage(burst)
		if err != nil {
			return err
		}
		s.lab.say("flipped-bit, round %d: %s", round, strings.Join(where, ", "))
		flips += len(where)
		if burst {
			flips--
			bursts++
		}
		if err := s.hub.start(ctx); err != nil {
			return fmt.Errorf("start on damaged files: %w", err)
		}
		s.proxy.play(nil)
		if _, err := s.settled(ctx); err != nil {
			return err
		}
		if round%4 == 3 {
			// So that there is progress to damage: it is saved each ten seconds.
			if err := pause(ctx, scale(s.lab, 0, 12*time.Second)); err != nil {
				return err
			}
		}
	}
	s.happened("flipped", flips)
	s.happened("bursts", bursts)
	copies, err := filepath.Glob(filepath.Join(s.hub.data, "jetstream", "damaged", "*.blk"))
	if err != nil {
		return fmt.Errorf("count the mended files: %w", err)
	}
	s.happened("mended_files", len(copies))
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

// burstLength is how many bytes a burst spoils at most.
const burstLength = 64

// newest is how much of the journal's end is damaged, in bytes: there are the readings that no store has.
const newest = 60_000

// damage damages the files of a hub that does not run, and says where.
func (h *hub) damage(burst bool) (where []string, err error) {
	streams := filepath.Join(h.data, "jetstream", "jetstream", "$G", "streams")
	folders, err := filepath.Glob(filepath.Join(streams, "*", "msgs"))
	if err != nil {
		return nil, fmt.Errorf("find the streams: %w", err)
	}
	for _, folder := range folders {
		name := filepath.Base(filepath.Dir(folder))
		var files []string
		for _, pattern := range []string{"*.blk", "index.db"} {
			found, err := filepath.Glob(filepath.Join(folder, pattern))
			if err != nil {
				return nil, fmt.Errorf("find the files of %s: %w", name, err)
			}
			if len(found) > 0 {
				files = append(files, slices.MaxFunc(found, byNumber))
			}
		}
		for _, file := range files {
			length := 0 // one bit
			if burst && name == "JOURNAL" && strings.HasSuffix(file, ".blk") {
				length = 1 + rand.IntN(burstLength)
			}
			at, err := spoil(file, length)
			if err != nil {
				return nil, err
			}
			if at != "" {
				where = append(where, name+"/"+at)
			}
		}
	}
	if len(where) == 0 {
		return nil, fmt.Errorf("there is nothing to damage in %s", streams)
	}
	return where, nil
}

// byNumber is the order of files whose names are numbers.
func byNumber(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) }

// spoil flips one bit near the end of a file, or, with a length, spoils so many bytes there, and says where. It says nothing of
// an empty file.
func spoil(file string, length int) (string, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("damage a file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("damage a file: %w", err)
	}
	if info.Size() == 0 {
		return "", nil
	}
	at := info.Size() - 1 - rand.Int64N(min(info.Size(), newest))
	piece := make([]byte, min(int64(max(1, length)), info.Size()-at))
	if _, err := f.ReadAt(piece, at); err != nil {
		return "", fmt.Errorf("damage a file: %w", err)
	}
	if length == 0 {
		piece[0] ^= 1 << rand.IntN(8)
	}
	for i := range length {
		if i < len(piece) {
			piece[i] = byte(rand.IntN(256))
		}
	}
	if _, err := f.WriteAt(piece, at); err != nil {
		return "", fmt.Errorf("damage a file: %w", err)
	}
	return fmt.Sprintf("%s bytes %d-%d of %d", filepath.Base(file), at, at+int64(len(piece)), info.Size()), nil
}
