package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"telemetryhub/api/client"
	"telemetryhub/store/influxtest"
)

// scene is one fault's stage: a folder, a hub, sometimes a database, and what came of it.
type scene struct {
	lab *lab
	dir string
	outcome

	hub      *hub
	db       *influxtest.Server
	proxy    *proxy
	children []*child // simulators
	closers  []func() error

	extra map[string]bool             // devices that are not the simulators'; their readings are judged apart
	named uint64                      // readings that were acked and are not stored, but named by the account
	aside func(context.Context) error // checks what the account names, once nothing is queued; may be nil
}

func (l *lab) newScene() (*scene, error) {
	dir, err := os.MkdirTemp("", "telemetryhub-torture-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	s := &scene{lab: l, dir: dir, extra: map[string]bool{}}
	s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
	return s, nil
}

// close ends everything, backwards.
func (s *scene) close() error {
	for _, c := range s.children {
		c.kill()
	}
	if s.hub != nil && s.hub.child != nil {
		s.hub.kill()
		if s.hub.api != nil {
			s.hub.api.Close()
		}
	}
	if s.proxy != nil {
		s.proxy.close()
	}
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Kill())
	}
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// folder makes a folder of the scene.
func (s *scene) folder(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	return dir, nil
}

// startHub starts a hub on data, with a configuration in YAML.
func (s *scene) startHub(ctx context.Context, data, config string) error {
	file := filepath.Join(s.dir, "hub.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	s.hub = &hub{binary: s.lab.program("hub"), environment: s.lab.environment, data: data, config: file, private: s.dir}
	return s.hub.start(ctx)
}

// embedded starts a hub with the embedded store.
func (s *scene) embedded(ctx context.Context) error {
	return s.startHub(ctx, filepath.Join(s.dir, "data"), "")
}

// withInfluxDB starts a real InfluxDB, the proxy before it and a hub that knows only the proxy. timeout is the hub's, of
// one write.
func (s *scene) withInfluxDB(ctx context.Context, timeout time.Duration) error {
	if err := s.startInfluxDB(ctx); err != nil {
		return err
	}
	return s.startHubOnInfluxDB(ctx, timeout)
}

func (s *scene) startInfluxDB(ctx context.Context) error {
	dir, err := s.folder("influxdb")
	if err != nil {
		return err
	}
	if s.db, err = influxtest.Start(ctx, dir); err != nil {
		return err
	}
	s.proxy, err = newProxy(s.db.URL())
	return err
}

func (s *scene) startHubOnInfluxDB(ctx context.Context, timeout time.Duration) error {
	config := fmt.Sprintf("store:\n  kind: influxdb\n  influxdb:\n    url: %s\n    bucket: telemetry\n    timeout: %s\n", s.proxy.url(), timeout)
	return s.startHub(ctx, filepath.Join(s.dir, "data"), config)
}

// take adds a simulator's verdict up.
func (s *scene) take(v verdict) {
	s.judged = true
	s.sent += v.Sent
	s.acked += v.Acked
	s.stored += *v.Stored
	s.lost += *v.Lost
	s.doubled += *v.Duplicated
}

// conclude waits for a simulator's verdict and holds the hub's account against it.
func (s *scene) conclude(ctx context.Context, sims ...*sim) error {
	for _, m := range sims {
		v, err := m.judge(ctx, judgeLimit)
		if err != nil {
			return err
		}
		s.take(v)
		if *v.Lost > 0 || *v.Duplicated > 0 {
			s.lab.say("the judge says:\n%s", m.stderr.last(12))
		}
	}
	return s.account(ctx)
}

// settled is the audit once nothing is queued.
func (s *scene) settled(ctx context.Context) (audit client.Audit, err error) {
	for {
		before := cmp.Or(audit.Total.Queued, math.MaxUint64)
		err = until(ctx, "the hub's queue to become shorter", settleLimit, func() (bool, error) {
			var err error
			audit, err = s.hub.audit(ctx)
			return audit.Total.Queued == 0 || audit.Total.Queued < before, err
		})
		switch {
		case err != nil && audit.Total.Queued > 0:
			return audit, fmt.Errorf("%d readings stay queued: %w", audit.Total.Queued, err)
		case err != nil || audit.Total.Queued == 0:
			return audit, err
		}
	}
}

// account holds the hub's audit against the judge's verdict.
func (s *scene) account(ctx context.Context) error {
	audit, err := s.settled(ctx)
	if err != nil {
		return err
	}
	if s.aside != nil {
		if err := s.aside(ctx); err != nil {
			return err
		}
	}
	var stored, received uint64
	var sum client.Counts
	for _, d := range audit.Devices {
		if missing := d.Missing(); missing != 0 {
			s.problem("the account of %s does not add up: received %d, explained %d", d.Device, d.Received, int64(d.Received)-missing)
		}
		sum.Received += d.Received
		if !s.extra[d.Device] {
			stored += d.Stored
			received += d.Received
		}
	}
	switch {
	case audit.Total.Missing() != 0:
		s.problem("the account does not add up by %d", audit.Total.Missing())
	case sum.Received != audit.Total.Received:
		s.problem("the devices' accounts have %d received, the total %d", sum.Received, audit.Total.Received)
	case stored != s.stored:
		s.problem("the account says %d stored, the judge found %d", stored, s.stored)
	case received < s.acked:
		s.problem("the account says %d received, acked were %d", received, s.acked)
	}
	if s.named > 0 {
		s.fact("named", s.named)
		if s.named > s.lost {
			s.problem("the account names %d that are not stored, and the judge misses only %d", s.named, s.lost)
		}
		s.lost -= min(s.lost, s.named)
	}
	return nil
}

// lastWords are the ends of what the processes said.
func (s *scene) lastWords() string {
	var b strings.Builder
	if s.hub != nil && s.hub.child != nil {
		fmt.Fprintf(&b, "hub:\n%s\n", s.hub.stderr.complaints(20))
	}
	if s.proxy != nil {
		fmt.Fprintf(&b, "database, by the proxy:\n%s\n", s.proxy.lastTrouble())
	}
	for _, c := range s.children {
		fmt.Fprintf(&b, "%s:\n%s\n", c.name, c.stderr.complaints(8))
	}
	return b.String()
}
