package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"telemetryhub/api/client"
)

// bridgeMarker is a device whose readings tell that all before them have come: the broker hands on in order.
const bridgeMarker = "marker"

// bridgeDevices are so many behind the broker.
const bridgeDevices = 20

// mqttBridge lets devices publish to a real Mosquitto that the hub fetches their readings from, kills the hub and
// restarts Mosquitto, each time in another order and at a random moment. What Mosquitto has acknowledged is to be stored
// once. In the long form Mosquitto is killed afterwards as well: what it then forgets is told, and not counted, for no hub
// can store what its broker has lost.
func mqttBridge(ctx context.Context, s *scene) error {
	m, err := s.startMosquitto(ctx)
	if err != nil {
		return err
	}
	defer m.kill()
	config := fmt.Sprintf("bridge:\n  brokers:\n    - {name: torture, url: '%s', client_id: torture, retry_min: 100ms, retry_max: 1s}\n", m.url())
	if err := s.startHub(ctx, filepath.Join(s.dir, "data"), config); err != nil {
		return err
	}
	s.extra[bridgeMarker] = true
	if _, err := s.hub.api.CreateDevice(ctx, client.NewDevice{ID: bridgeMarker}); err != nil {
		return fmt.Errorf("create the device: %w", err)
	}
	sim, err := s.simulateBehind(m, "sim")
	if err != nil {
		return err
	}
	rounds := s.lab.rounds
	if rounds <= 0 {
		rounds = scale(s.lab, 3, 50)
	}
	for round := range rounds {
		if err := s.bridgeRound(ctx, m, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := sim.alive(); err != nil {
			return err
		}
	}
	s.happened("killed", s.hub.kills)
	s.happened("broker_restarts", m.stops)
	if err := s.endBehind(ctx, m, sim); err != nil {
		return err
	}
	v, err := sim.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	s.take(v)
	if *v.Lost > 0 || *v.Duplicated > 0 {
		s.lab.say("the judge says:\n%s", sim.stderr.last(12))
	}
	s.happened("device_reconnects", int(v.Reconnects))
	if err := s.bridgeFacts(ctx); err != nil {
		return err
	}
	if !s.lab.quick {
		if err := s.brokerKill9(ctx, m); err != nil {
			return err
		}
	}
	return s.account(ctx)
}

// simulateBehind starts devices that know only the broker.
func (s *scene) simulateBehind(m *mosquitto, prefix string) (*sim, error) {
	return s.simulate(load{devices: bridgeDevices, rate: scale(s.lab, 20, 10), args: []string{
		"--protocol", "mqtt", "--bridged", "--mqtt-url", "tcp://" + m.address, "--prefix", prefix,
	}})
}

// bridgeRound kills the hub, and restarts the broker before, while it is down, while it starts, or not at all.
func (s *scene) bridgeRound(ctx context.Context, m *mosquitto, round int) error {
	if err := s.reaches(ctx, m); err != nil {
		return err
	}
	if err := pause(ctx, rand.N(1500*time.Millisecond)); err != nil {
		return err
	}
	if round%4 == 0 { // both at work
		if err := m.restart(ctx); err != nil {
			return err
		}
		if err := pause(ctx, rand.N(300*time.Millisecond)); err != nil {
			return err
		}
	}
	if err := s.hub.crash(); err != nil {
		return err
	}
	if round%4 == 1 { // what waits for the hub is on the broker's disk meanwhile
		if err := pause(ctx, rand.N(500*time.Millisecond)); err != nil {
			return err
		}
		if err := m.restart(ctx); err != nil {
			return err
		}
	}
	if err := s.hub.launch(); err != nil {
		return err
	}
	if round%4 == 2 { // on its way up
		if err := pause(ctx, rand.N(600*time.Millisecond)); err != nil {
			return err
		}
		if err := m.restart(ctx); err != nil {
			return err
		}
	}
	return s.hub.await(ctx)
}

// reaches returns when a reading sent now has passed the broker and is durable.
func (s *scene) reaches(ctx context.Context, m *mosquitto) error {
	before, err := s.markers(ctx)
	if err != nil {
		return err
	}
	if err := m.send(ctx, "devices/"+bridgeMarker+"/telemetry", fmt.Sprintf(`{"n":%d}`, before)); err != nil {
		return err
	}
	return until(ctx, "a reading to pass the broker", time.Minute, func() (bool, error) {
		now, err := s.markers(ctx)
		return now > before, err
	})
}

// markers is how many readings of the marker were received.
func (s *scene) markers(ctx context.Context) (received uint64, err error) {
	audit, err := s.hub.audit(ctx)
	for _, d := range audit.Devices {
		if d.Device == bridgeMarker {
			received = d.Received
		}
	}
	return received, err
}

// endBehind lets the devices come to their end, once what waited has passed the broker.
func (s *scene) endBehind(ctx context.Context, m *mosquitto, sim *sim) error {
	if err := s.reaches(ctx, m); err != nil {
		return err
	}
	return sim.finish()
}

// bridgeFacts adds what the hub says of its connection since its last start.
func (s *scene) bridgeFacts(ctx context.Context) error {
	text, err := s.hub.api.Metrics(ctx)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(name, "hub_bridge_sessions_lost_total{") {
			continue
		}
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("metrics: %q: %w", line, err)
		}
		s.never("sessions_forgotten", int(count))
	}
	return nil
}

// brokerKill9 kills the broker and tells how much of what it had acknowledged it forgot.
func (s *scene) brokerKill9(ctx context.Context, m *mosquitto) error {
	const prefix = "kill9"
	for n := range bridgeDevices {
		s.extra[fmt.Sprintf("%s-%05d", prefix, n+1)] = true
	}
	sim, err := s.simulateBehind(m, prefix)
	if err != nil {
		return err
	}
	for range 5 {
		if err := s.reaches(ctx, m); err != nil {
			return err
		}
		if err := pause(ctx, rand.N(1500*time.Millisecond)); err != nil {
			return err
		}
		if err := m.crash(ctx); err != nil {
			return err
		}
	}
	if err := s.endBehind(ctx, m, sim); err != nil {
		return err
	}
	v, err := sim.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	s.happened("broker_killed", m.kills)
	s.fact("acked_by_it", v.Acked)
	s.fact("forgotten_by_it", *v.Lost)
	s.doubled += *v.Duplicated
	return nil
}
