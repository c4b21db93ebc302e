package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The ways by which a fleet's readings come to the hub.
const (
	wayWSS     = ""         // the hub's own protocol
	wayMQTTWSS = "mqtt+wss" // the embedded broker, on the hub's one port
	wayBroker  = "mqtt"     // Mosquitto, from which the hub's bridge takes them
)

const (
	// brokerAhead is how many messages Mosquitto sends the hub ahead of its acknowledgements: as many as a bridge takes
	// (max_inflight). By default they are 20, so few that each would wait for an fsync with 19 others.
	brokerAhead = 256
	// brokerPlaces are where packages put the broker, if it is not on the PATH.
	brokerPlaces = "/usr/sbin/mosquitto /usr/local/sbin/mosquitto"
)

// mqttPart measures a way of MQTT and, before it in the same run, the hub's own protocol with the same fleet: on a machine
// that others use only their ratio means much.
func mqttPart(name, way string, fleet saturation) part {
	other := fleet
	other.way = way
	ran := "hub with the embedded store; " + simLine(fleet.flags()) + "; then the same with --protocol " + way
	if way == wayBroker {
		ran += " to Mosquitto, from which the hub's bridge takes them"
	}
	return part{
		gives: []quantity{
			{"hub_cpu_us_per_reading_" + name, "us"},
			{"readings_per_second_" + name, "1/s"},
			{"hub_cpu_us_per_reading_wss_beside_" + name, "us"},
			{"readings_per_second_wss_beside_" + name, "1/s"},
			{"hub_cpu_ratio_" + name, "of wss"},
			{"readings_ratio_" + name, "of wss"},
		},
		ran: ran,
		run: func(ctx context.Context, l *lab, dir string) ([]float64, error) {
			if way == wayBroker {
				if _, err := findBroker(); err != nil {
					return nil, err
				}
			}
			ownCost, ownRate, err := fleet.measure(ctx, l, filepath.Join(dir, "wss"))
			if err != nil {
				return nil, fmt.Errorf("wss: %w", err)
			}
			cost, rate, err := other.measure(ctx, l, filepath.Join(dir, "mqtt"))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way, err)
			}
			return []float64{cost, rate, ownCost, ownRate, cost / ownCost, rate / ownRate}, nil
		},
	}
}

// broker is a running Mosquitto that keeps nothing on disk.
type broker struct {
	*child
	address string
}

// findBroker returns where Mosquitto is; where there is none, the error is a *leftOut.
func findBroker() (string, error) {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path, nil
	}
	for path := range strings.FieldsSeq(brokerPlaces) {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &leftOut{errors.New("there is no mosquitto (apt-get install mosquitto)")}
}

// startBroker runs Mosquitto and writes a configuration whose bridge takes its devices' messages.
func startBroker(ctx context.Context, dir string) (b *broker, config string, err error) {
	path, err := findBroker()
	if err != nil {
		return nil, "", err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", fmt.Errorf("address of mosquitto: %w", err)
	}
	// It acknowledges faster than the hub takes: without a bound of its own it loses nothing of the seconds that a run lasts.
	settings := fmt.Sprintf("listener %s %s\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nmax_inflight_messages %d\nset_tcp_nodelay true\n",
		port, host, brokerAhead)
	file, config := filepath.Join(dir, "mosquitto.conf"), filepath.Join(dir, "hub.yaml")
	bridge := fmt.Sprintf("bridge:\n  brokers:\n    - name: bench\n      url: tcp://%s\n", address)
	if err := errors.Join(os.WriteFile(file, []byte(settings), 0o600), os.WriteFile(config, []byte(bridge), 0o600)); err != nil {
		return nil, "", fmt.Errorf("configuration: %w", err)
	}
	c, err := spawn(path, "-c", file)
	if err != nil {
		return nil, "", err
	}
	var dialer net.Dialer
	err = until(ctx, "mosquitto to listen", pollEvery, startLimit, func() (bool, error) {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return false, c.alive()
		}
		return true, conn.Close()
	})
	if err != nil {
		c.kill()
		return nil, "", err
	}
	return &broker{child: c, address: address}, config, nil
}

// freeAddress is a loopback address on which nothing listened a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", anyPort)
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
