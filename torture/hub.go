package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"telemetryhub/api/client"
)

const (
	startLimit  = 45 * time.Second
	settleLimit = time.Minute // without the queue becoming shorter
	pollEvery   = 50 * time.Millisecond
)

// hub is a hub on one data folder and one port, running or not.
type hub struct {
	*child
	binary      string
	environment []string
	data        string
	config      string // file
	address     string // HOST:PORT; the same over restarts
	private     string // folder for copies of the token and the CA, which outlive the data folder's mounts
	api         *client.Client
	kills       int
}

var (
	serving  = regexp.MustCompile(`https://(127\.0\.0\.1:\d+)`)
	complete = "CA certificate" // in the last line that a hub prints when it serves
)

// launch starts the process and does not wait for more.
func (h *hub) launch() (err error) {
	listen := h.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	h.child, err = spawn(h.environment, h.binary, "--data", h.data, "--listen", listen, "--mqtt-listen", "off", "--config", h.config)
	return err
}

// start starts the hub and returns when it serves.
func (h *hub) start(ctx context.Context) error {
	if err := h.launch(); err != nil {
		return err
	}
	return h.await(ctx)
}

// await returns when a launched hub serves.
func (h *hub) await(ctx context.Context) error {
	err := until(ctx, "the hub to announce itself", startLimit, func() (bool, error) {
		text := string(h.stdout.text())
		if m := serving.FindStringSubmatch(text); m != nil && strings.Contains(text, complete) {
			h.address = m[1]
			return true, nil
		}
		return false, h.alive()
	})
	if err == nil && h.api == nil {
		err = h.introduce()
	}
	if err != nil {
		return err
	}
	return until(ctx, "the hub to be ready", startLimit, func() (bool, error) {
		r, err := h.api.Ready(ctx)
		return r.Ready, errors.Join(onlyFinal(err), h.alive())
	})
}

// introduce copies the token and the CA, once.
func (h *hub) introduce() error {
	for from, to := range map[string]string{filepath.Join(h.data, "admin.token"): h.tokenFile(), filepath.Join(h.data, "tls", "ca.pem"): h.caFile()} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("copy the hub's credentials: %w", err)
		}
	}
	token, err := os.ReadFile(h.tokenFile())
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	h.api, err = client.New(client.Config{URL: h.url(), Token: strings.TrimSpace(string(token)), CAFile: h.caFile(), Agent: "torture"})
	if err != nil {
		return fmt.Errorf("client of the hub: %w", err)
	}
	return nil
}

func (h *hub) url() string       { return "https://" + h.address }
func (h *hub) tokenFile() string { return filepath.Join(h.private, "admin.token") }
func (h *hub) caFile() string    { return filepath.Join(h.private, "ca.pem") }

// crash kills the hub, which has to be alive until then.
func (h *hub) crash() error {
	if !h.kill() {
		return fmt.Errorf("the hub had ended before it was killed: %w: %s", h.ending(), h.stderr.last(10))
	}
	h.kills++
	return nil
}

// audit is the account of all devices, asked again while the hub does not answer.
func (h *hub) audit(ctx context.Context) (audit client.Audit, err error) {
	err = until(ctx, "the hub's audit", startLimit, func() (bool, error) {
		var err error
		audit, err = h.api.Audit(ctx, "")
		return err == nil, errors.Join(onlyFinal(err), h.alive())
	})
	return audit, err
}

// received waits until more than so many readings are durable, and returns how many.
func (h *hub) received(ctx context.Context, above uint64) (now uint64, err error) {
	err = until(ctx, fmt.Sprintf("more than %d readings to be received", above), time.Minute, func() (bool, error) {
		a, err := h.audit(ctx)
		now = a.Total.Received
		return now > above, err
	})
	return now, err
}

// onlyFinal leaves out errors that a hub on its way up, or a busy one, gives.
func onlyFinal(err error) error {
	var unreachable *client.UnreachableError
	if err == nil || errors.As(err, &unreachable) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if problem, is := errors.AsType[*client.Problem](err); is && (problem.Status >= 500 || problem.Status == 429) {
		return nil
	}
	return err
}

// until asks again until ok says yes, fails, or the limit is over.
func until(ctx context.Context, what string, limit time.Duration, ok func() (bool, error)) error {
	return untilEvery(ctx, pollEvery, what, limit, ok)
}

// untilEvery asks every so often.
func untilEvery(ctx context.Context, every time.Duration, what string, limit time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %v for %s", limit, what))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
