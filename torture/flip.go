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
		if received, err = s.hub.received(ctx, received+200); err != nil { // a write may be on its way yet
			return err
		}
		from, err := s.hub.journalEnd()
		if err != nil {
			return err
		}
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
		where, err := s.hub.flipBits()
		if err != nil {
			return err
		}
		flips += len(where)
		if round%4 >= 2 {
			at, err := s.hub.spoilJournal(from)
			if err != nil {
				return err
			}
			where = append(where, at)
			bursts++
		}
		s.lab.say("flipped-bit, round %d: %s", round, strings.Join(where, ", "))
		if err := s.hub.start(ctx); err != nil {
			return fmt.Errorf("start on damaged files: %w", err)
		}
		s.proxy.play(nil)
		if err := s.hub.caughtUp(ctx); err != nil {
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

// caughtUp waits until what the hub has received by now is no longer queued.
func (h *hub) caughtUp(ctx context.Context) error {
	a, err := h.audit(ctx)
	if err != nil {
		return err
	}
	received := a.Total.Received
	return until(ctx, fmt.Sprintf("%d readings to be settled", received), settleLimit, func() (bool, error) {
		a, err := h.audit(ctx)
		return a.Total.Received-a.Total.Queued >= received, err
	})
}

// newest is how much of a file's end a bit is flipped in, in bytes.
const newest = 60_000

// streams is the folder of the hub's streams.
func (h *hub) streams() string {
	return filepath.Join(h.data, "jetstream", "jetstream", "$G", "streams")
}

// flipBits flips one bit of the newest block of each stream, and of the index of its blocks, of a hub that does not run, and
// says where.
func (h *hub) flipBits() (where []string, err error) {
	folders, err := filepath.Glob(filepath.Join(h.streams(), "*", "msgs"))
	if err != nil {
		return nil, fmt.Errorf("find the streams: %w", err)
	}
	for _, folder := range folders {
		for _, pattern := range []string{"*.blk", "index.db"} {
			file, size, err := newestFile(filepath.Join(folder, pattern))
			if err != nil {
				return nil, err
			}
			if size == 0 {
				continue
			}
			at := size - 1 - rand.Int64N(min(size, newest))
			err = change(file, at, 1, func(piece []byte) { piece[0] ^= 1 << rand.IntN(8) })
			if err != nil {
				return nil, err
			}
			where = append(where, fmt.Sprintf("%s/%s:%d", filepath.Base(filepath.Dir(folder)), filepath.Base(file), at))
		}
	}
	return where, nil
}

// journalPlace is a place in the journal.
type journalPlace struct {
	block string
	at    int64
}

// journalEnd is where the next envelope will be.
func (h *hub) journalEnd() (journalPlace, error) {
	file, size, err := newestFile(filepath.Join(h.streams(), "JOURNAL", "msgs", "*.blk"))
	return journalPlace{file, size}, err
}

const (
	// burstMost is how many bytes a burst spoils.
	burstMost = 64
	// behindBurst is how much of the journal, in bytes, comes behind a burst: so much that each device has something in it,
	// which says how much it had before. Of what is lost at the very end the hub can name only what the damage left readable.
	behindBurst = 30_000
)

// spoilJournal spoils some bytes of a journal that nobody has open, behind from, and says where.
func (h *hub) spoilJournal(from journalPlace) (string, error) {
	end, err := h.journalEnd()
	if err != nil {
		return "", err
	}
	if end.at < behindBurst+burstMost { // a new block: the one before has more
		info, err := os.Stat(from.block)
		if err != nil {
			return "", fmt.Errorf("damage the journal: %w", err)
		}
		end = journalPlace{from.block, info.Size() + behindBurst}
	}
	if end.block != from.block {
		from.at = 0
	}
	room := end.at - behindBurst - burstMost - from.at
	if room <= 0 {
		return "", fmt.Errorf("the journal has grown too little to be damaged: from %+v to %+v", from, end)
	}
	at, length := from.at+rand.Int64N(room), 1+rand.IntN(burstMost)
	err = change(end.block, at, length, func(piece []byte) {
		for i := range piece {
			piece[i] = byte(rand.IntN(256))
		}
	})
	return fmt.Sprintf("a burst of %d bytes in JOURNAL/%s:%d", length, filepath.Base(end.block), at), err
}

// newestFile returns the file of the highest number, and its size: 0 if there is none.
func newestFile(pattern string) (file string, size int64, err error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return "", 0, err
	}
	file = slices.MaxFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	info, err := os.Stat(file)
	if err != nil {
		return "", 0, fmt.Errorf("find the newest file: %w", err)
	}
	return file, info.Size(), nil
}

// change changes a piece of a file.
func change(file string, at int64, length int, how func(piece []byte)) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("damage a file: %w", err)
	}
	defer func() { _ = f.Close() }()
	piece := make([]byte, length)
	if _, err := f.ReadAt(piece, at); err != nil {
		return fmt.Errorf("damage a file: %w", err)
	}
	how(piece)
	if _, err := f.WriteAt(piece, at); err != nil {
		return fmt.Errorf("damage a file: %w", err)
	}
	return nil
}
