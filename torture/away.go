package main

import (
	"context"
	"time"
)

// influxdbAway takes the database away for a while: acks go on, readings wait, and all of them arrive afterwards.
func influxdbAway(ctx context.Context, s *scene) error {
	if err := s.withInfluxDB(ctx, 5*time.Second); err != nil {
		return err
	}
	away := scale(s.lab, 12*time.Second, 5*time.Minute)
	m, err := s.simulate(load{devices: 50, rate: 20})
	if err != nil {
		return err
	}
	if _, err := s.hub.received(ctx, 500); err != nil {
		return err
	}
	if err := s.db.Stop(); err != nil {
		return err
	}
	gone := time.Now()
	before, err := s.hub.audit(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, away); err != nil {
		return err
	}
	during, err := s.hub.audit(ctx)
	if err != nil {
		return err
	}
	told := 0
	ready, err := s.hub.api.Ready(ctx)
	if err != nil {
		return err
	}
	for _, part := range ready.Parts {
		if part.Message != "" {
			told++
		}
	}
	if err := s.db.Restart(ctx); err != nil {
		return err
	}
	s.fact("away_s", int(time.Since(gone).Seconds()))
	s.happened("acked_meanwhile", int(during.Total.Received-before.Total.Received))
	s.happened("queued", int(during.Total.Queued))
	s.happened("told_by_readyz", told)
	if err := m.finish(); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}

// influxdbLate starts the hub while the database, a new one, is away: what has to be made in it has to be made later.
func influxdbLate(ctx context.Context, s *scene) error {
	if err := s.startInfluxDB(ctx); err != nil {
		return err
	}
	if err := s.db.Stop(); err != nil {
		return err
	}
	if err := s.startHubOnInfluxDB(ctx, 5*time.Second); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 20, rate: 20})
	if err != nil {
		return err
	}
	if _, err := s.hub.received(ctx, 1000); err != nil {
		return err
	}
	if err := s.db.Restart(ctx); err != nil {
		return err
	}
	before, err := s.hub.audit(ctx)
	if err != nil {
		return err
	}
	s.happened("queued", int(before.Total.Queued))
	if err := m.finish(); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}
