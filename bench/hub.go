package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"telemetryhub/api/client"
)

const (
	startLimit = 60 * time.Second
	pollEvery  = 100 * time.Millisecond
)

// hub is a running hub and the administrator's way to it.
type hub struct {
	*child
	data    string
	config  string // file, or empty
	address string // HOST:PORT
	api     *client.Client
}

// serving finds what the hub announces. The second line is its last: the port is open by then.
var (
	serving  = regexp.MustCompile(`https://(127\.0\.0\.1:\d+)`)
	complete = "CA certificate"
)

// startHub starts a hub and returns when it is ready. listen is "127.0.0.1:0", or the address of an earlier one.
func (l *lab) startHub(ctx context.Context, data, config, listen string) (*hub, error) {
	args := []string{"--data", data, "--listen", listen, "--mqtt-listen", "off"}
	if config != "" {
		args = append(args, "--config", config)
	}
	c, err := spawn(filepath.Join(l.bin, "hub"), args...)
	if err != nil {
		return nil, err
	}
	h := &hub{child: c, data: data, config: config}
	if err := h.await(ctx); err != nil {
		h.discard()
		return nil, err
	}
	return h, nil
}

// again starts a hub on the folder and the port of one that has ended.
func (l *lab) again(ctx context.Context, h *hub) (*hub, error) {
	return l.startHub(ctx, h.data, h.config, h.address)
}

func (h *hub) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("the hub did not start within %v", startLimit))
	defer cancel()
	for h.address == "" {
		text, changed := h.stdout.now()
		if m := serving.FindSubmatch(text); m != nil && strings.Contains(string(text), complete) {
			h.address = string(m[1])
			break
		}
		select {
		case <-changed:
		case <-h.ended:
			return h.alive()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	token, err := os.ReadFile(h.tokenFile())
	if err != nil {
		return fmt.Errorf("administrator's token: %w", err)
	}
	h.api, err = client.New(client.Config{URL: "https://" + h.address, Token: string(token), CAFile: h.caFile(), Agent: "bench"})
	if err != nil {
		return fmt.Errorf("client of the hub: %w", err)
	}
	return until(ctx, "the hub to be ready", pollEvery, startLimit, func() (bool, error) {
		r, err := h.api.Ready(ctx)
		return r.Ready, errors.Join(err, h.alive())
	})
}

func (h *hub) tokenFile() string { return filepath.Join(h.data, "admin.token") }
func (h *hub) caFile() string    { return filepath.Join(h.data, "tls", "ca.pem") }

// discard ends a hub whose folder is not needed any more.
func (h *hub) discard() {
	h.kill()
	if h.api != nil {
		h.api.Close()
	}
}

// online is the number of devices with a session, by the hub's own metrics.
func (h *hub) online(ctx context.Context) (int, error) {
	text, err := h.api.Metrics(ctx)
	if err != nil {
		return 0, fmt.Errorf("metrics: %w", err)
	}
	return parseOnline(text)
}

// parseOnline adds up hub_devices_online over all transports.
func parseOnline(metrics string) (int, error) {
	sum := 0
	for lines := bufio.NewScanner(strings.NewReader(metrics)); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "hub_devices_online{") {
			continue
		}
		_, value, _ := strings.Cut(lines.Text(), "} ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %q: %w", lines.Text(), err)
		}
		sum += int(n)
	}
	return sum, nil
}

// awaitOnline waits until so many devices have a session.
func (h *hub) awaitOnline(ctx context.Context, devices int, limit time.Duration, sim *child) error {
	what := fmt.Sprintf("%d devices to be connected", devices)
	return until(ctx, what, 2*pollEvery, limit, func() (bool, error) {
		n, err := h.online(ctx)
		return n >= devices, errors.Join(err, h.alive(), sim.alive())
	})
}
