package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"
)

// mixed plays everything at once, at random: kills of hub and database, a database that misbehaves, devices that do.
func mixed(ctx context.Context, s *scene) error {
	length := s.lab.mixed
	if length <= 0 {
		length = scale(s.lab, 20*time.Second, time.Hour)
	}
	if err := s.withInfluxDB(ctx, 3*time.Second); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 50, rate: 10, args: []string{"--faults", "duplicate,bad-type,bad-frame,half-open,slow-reader,clock,disconnect"}})
	if err != nil {
		return err
	}
	misbehave := []func(*scene) func(*write){slow, failing, limiting, narrow, cutting, away}
	databaseKills, moods := 0, 0
	over := time.Now().Add(length)
	for time.Now().Before(over) || s.hub.kills == 0 || databaseKills == 0 {
		s.proxy.play(misbehave[rand.IntN(len(misbehave))](s))
		moods++
		if err := pause(ctx, time.Second+rand.N(3*time.Second)); err != nil {
			return err
		}
		if err := m.alive(); err != nil {
			return err
		}
		// Each comes about as often as the other, and both have come at the end.
		if rand.IntN(2) == 0 && s.hub.kills <= databaseKills || s.hub.kills < databaseKills {
			if err := s.hub.crash(); err != nil {
				return err
			}
			if err := s.hub.start(ctx); err != nil {
				return err
			}
			continue
		}
		if err := s.db.Kill(); err != nil {
			return err
		}
		databaseKills++
		if err := pause(ctx, rand.N(3*time.Second)); err != nil {
			return err
		}
		if err := s.db.Restart(ctx); err != nil {
			return err
		}
	}
	s.proxy.play(nil)
	s.fact("minutes", int(length.Minutes()))
	s.happened("hub_killed", s.hub.kills)
	s.happened("database_killed", databaseKills)
	s.happened("moods", moods)
	if err := m.finish(); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}

// away answers as a proxy without a database does.
func away(*scene) func(*write) {
	return func(w *write) { w.refuse(http.StatusServiceUnavailable, "no database") }
}
