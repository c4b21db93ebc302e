package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

// space watches what may run out of it: the journal's bound and the disk of the data folder. It warns operators before,
// and tells devices when it has.
type space struct {
	h       *hub
	journal *fullness
	disk    *fullness

	journalBytes, journalLimit, diskFree prometheus.Gauge
}

// How often space is looked at, and how soon devices hear that the journal cannot be written.
const (
	spaceEvery   = 10 * time.Second
	journalEvery = 500 * time.Millisecond
)

func (h *hub) openSpace(context.Context) error {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		h.reg.MustRegister(g)
		return g
	}
	h.space = &space{
		h: h, journal: &fullness{of: "the journal", log: h.log}, disk: &fullness{of: "the disk of the data folder", log: h.log},
		journalBytes: gauge("hub_journal_bytes", "Bytes of the journal, envelopes that are written and kept included."),
		journalLimit: gauge("hub_journal_limit_bytes", "Bytes that the journal may have."),
		diskFree:     gauge("hub_disk_free_bytes", "Free bytes on the disk of the data folder."),
	}
	h.background("space", h.space.run) //nolint:contextcheck // the loop ends with the hub, not with its start
	return nil
}

func (s *space) run(ctx context.Context) {
	journal, all := time.NewTicker(journalEvery), time.NewTicker(spaceEvery)
	defer journal.Stop()
	defer all.Stop()
	s.look(ctx)
	for {
		select {
		case <-journal.C:
			s.tellDevices()
		case <-all.C:
			s.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// journalFault returns why nothing can be committed at present.
func (s *space) journalFault() error {
	if err := s.h.ingest.Status().Journal; err != nil {
		return err
	}
	return s.h.bus.Room() // the next envelope will not be taken
}

func (s *space) tellDevices() {
	switch fault := s.journalFault(); {
	case fault == nil:
		s.h.connector.JournalGoesOn()
	case backbone.IsFull(fault):
		s.h.connector.JournalWaits(wire.ReasonJournalFull, "the hub's journal is full: keep your readings, they are acked when there is room")
	default:
		s.h.connector.JournalWaits(wire.ReasonHubBusy, "the hub's journal cannot be written at present: keep your readings, they are acked later")
	}
}

// look measures. What cannot be asked keeps its last figure: the journal's own part of readyz says why.
func (s *space) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, spaceEvery/2)
	defer cancel()
	if u, err := s.h.bus.Usage(ctx); err == nil {
		s.journalBytes.Set(float64(u.Journal))
		s.journalLimit.Set(float64(u.Limit))
		s.journal.note(u.Journal, u.Limit)
	}
	d, err := backbone.DiskOf(s.h.cfg.Data)
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			s.h.log.Warn("the disk's free space is not known", "err", err)
		}
		return
	}
	s.diskFree.Set(float64(d.Free))
	s.disk.note(d.Used, d.Used+d.Free)
}

// Warnings begin at these shares, in percent, and end warnSlack below, so that one crossing is one line in the log.
const (
	warnFirst  = 70
	warnSecond = 85
	warnSlack  = 5
)

// fullness is how full a thing is, and the warning about it.
type fullness struct {
	of  string
	log *slog.Logger

	mu          sync.Mutex
	level       uint64 // percent that the present warning began at; 0: none
	used, limit uint64
}

// note takes a new figure, in bytes, and logs if a warning begins or ends. Without a limit nothing is full.
func (f *fullness) note(used, limit uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used, f.limit = used, limit
	before := f.level
	f.level = nextLevel(before, f.percent())
	log := f.log.With("of", f.of, "percent", f.percent(), "used_mib", used>>20, "limit_mib", limit>>20)
	switch {
	case f.level > before:
		log.Warn("space runs out; when there is none, devices wait and nothing is acked")
	case f.level < before:
		log.Info("there is more space again")
	}
}

// percent needs mu.
func (f *fullness) percent() uint64 {
	if f.limit == 0 {
		return 0
	}
	return uint64(float64(f.used) / float64(f.limit) * 100)
}

func nextLevel(level, percent uint64) uint64 {
	switch {
	case percent >= warnSecond, level == warnSecond && percent >= warnSecond-warnSlack:
		return warnSecond
	case percent >= warnFirst, level >= warnFirst && percent >= warnFirst-warnSlack:
		return warnFirst
	}
	return 0
}

// message is the present warning, empty if there is none.
func (f *fullness) message() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.level == 0 {
		return ""
	}
	return fmt.Sprintf("%d %% of %d MiB are used", f.percent(), f.limit>>20)
}
