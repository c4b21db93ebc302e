package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// mosquitto is a real Mosquitto on one folder and one port, running or not. What it holds it writes to the folder when it
// is asked to end, and only then.
type mosquitto struct {
	*child
	binary  string
	publish string // mosquitto_pub
	config  string // file
	address string
	stops   int
	kills   int
}

// startMosquitto starts one that keeps all that it cannot hand on.
func (s *scene) startMosquitto(ctx context.Context) (*mosquitto, error) {
	m := &mosquitto{}
	for program, path := range map[string]*string{"mosquitto": &m.binary, "mosquitto_pub": &m.publish} {
		found, err := exec.LookPath(program)
		if err != nil {
			found, err = exec.LookPath("/usr/sbin/" + program)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: there is no %s (apt-get install mosquitto mosquitto-clients)", errLeftOut, program)
		}
		*path = found
	}
	dir, err := s.folder("mosquitto")
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	m.address, m.config = fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(dir, "mosquitto.conf")
	// Started by root it would become another user, who may not write to the folder; for others "user" means nothing.
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nuser root\n", port, dir)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write mosquitto's configuration: %w", err)
	}
	return m, m.start(ctx)
}

// freePort returns a port that is free now and that the system gives to nobody by itself: Mosquitto is to get it again
// after each restart.
func freePort(ctx context.Context) (int, error) {
	for range 100 {
		port := 10_000 + rand.IntN(20_000) // Linux gives from 32768
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no port is free between 10000 and 30000")
}

func (m *mosquitto) url() string { return "mqtt://" + m.address }

// start starts it and returns when it takes connections.
func (m *mosquitto) start(ctx context.Context) (err error) {
	if m.child, err = spawn(nil, m.binary, "-c", m.config); err != nil {
		return err
	}
	return until(ctx, "mosquitto to take connections", startLimit, func() (bool, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.address)
		if err != nil {
			return false, m.alive()
		}
		return true, conn.Close()
	})
}

// restart asks it to end and starts it again.
func (m *mosquitto) restart(ctx context.Context) error {
	if err := m.stop(); err != nil {
		return err
	}
	m.stops++
	return m.start(ctx)
}

// crash kills it and starts it again.
func (m *mosquitto) crash(ctx context.Context) error {
	if !m.kill() {
		return fmt.Errorf("mosquitto had ended before it was killed: %w: %s", m.ending(), m.stderr.last(10))
	}
	m.kills++
	return m.start(ctx)
}

// send publishes one message with QoS 1 and returns when it is acknowledged.
func (m *mosquitto) send(ctx context.Context, topic, payload string) error {
	host, port, _ := net.SplitHostPort(m.address) // made above
	out, err := exec.CommandContext(ctx, m.publish, "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", payload).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mosquitto_pub: %w: %s", err, out)
	}
	return nil
}
