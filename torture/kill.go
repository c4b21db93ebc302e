package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// hubKill9 kills the hub again and again while one simulation runs: while it serves, and while it starts.
func hubKill9(ctx context.Context, s *scene) error {
	if err := s.embedded(ctx); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 50, rate: scale(s.lab, 20, 10)})
	if err != nil {
		return err
	}
	rounds := s.lab.rounds
	if rounds <= 0 {
		rounds = scale(s.lab, 10, 200)
	}
	received := uint64(0)
	starting := 0
	for round := range rounds {
		if received, err = s.hub.received(ctx, received); err != nil {
			return err
		}
		if err := pause(ctx, rand.N(1500*time.Millisecond)); err != nil {
			return err
		}
		if err := s.hub.crash(); err != nil {
			return err
		}
		if round%3 == 2 { // and once more on its way up
			if err := s.hub.launch(); err != nil {
				return err
			}
			if err := pause(ctx, rand.N(600*time.Millisecond)); err != nil {
				return err
			}
			if err := s.hub.crash(); err != nil {
				return err
			}
			starting++
		}
		if err := s.hub.start(ctx); err != nil {
			return err
		}
		if err := m.alive(); err != nil {
			return err
		}
	}
	s.happened("killed", s.hub.kills)
	s.fact("killed_while_starting", starting)
	if _, err := s.hub.received(ctx, received); err != nil {
		return err
	}
	if err := m.finish(); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}

// influxdbKill9 kills the database in the middle of writes.
func influxdbKill9(ctx context.Context, s *scene) error {
	if err := s.withInfluxDB(ctx, 5*time.Second); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 50, rate: 20})
	if err != nil {
		return err
	}
	received, queued := uint64(0), uint64(0)
	kills := 0
	for range scale(s.lab, 2, 20) {
		if received, err = s.hub.received(ctx, received); err != nil {
			return err
		}
		if err := pause(ctx, time.Second+rand.N(2*time.Second)); err != nil {
			return err
		}
		if err := s.db.Kill(); err != nil {
			return err
		}
		kills++
		if received, err = s.hub.received(ctx, received+500); err != nil {
			return err // acks wait for the database
		}
		a, err := s.hub.audit(ctx)
		if err != nil {
			return err
		}
		queued = max(queued, a.Total.Queued)
		if err := s.db.Restart(ctx); err != nil {
			return err
		}
	}
	s.happened("killed", kills)
	s.happened("queued_most", int(queued))
	if err := m.finish(); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}
