package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"telemetryhub/api/client"
)

// saturation is a fleet that sends as fast as it is acknowledged.
type saturation struct {
	influxDB bool
	way      string // by which the readings come
	devices  int
	batch    int     // readings a frame
	rate     float64 // readings/s of each device that are asked for: more than any hub here can take
}

const (
	saturatingWindow = 20
	// saturated is how much of what is asked for may come through at most: above, the hub was not the limit.
	saturated  = 0.95
	drainLimit = 90 * time.Second
)

func (s saturation) flags() []string {
	return []string{
		"--devices", strconv.Itoa(s.devices), "--window", strconv.Itoa(saturatingWindow),
		"--batch", strconv.Itoa(s.batch), "--rate", strconv.FormatFloat(s.rate, 'f', -1, 64),
	}
}

// instant is what is known of the hub at one time.
type instant struct {
	at       time.Time
	cpu      time.Duration
	simCPU   time.Duration
	readings client.Counts
}

func takeInstant(ctx context.Context, h *hub, sim *child) (instant, error) {
	i := instant{at: time.Now()}
	var err, simErr, auditErr error
	i.cpu, err = cpuTime(h.pid())
	i.simCPU, simErr = cpuTime(sim.pid())
	audit, auditErr := h.api.Audit(ctx, "")
	i.readings = audit.Total
	return i, errors.Join(err, simErr, auditErr)
}

// measure gives the cost of a reading, and how many there were each second.
func (s saturation) measure(ctx context.Context, l *lab, dir string) (cost, perSecond float64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, 0, fmt.Errorf("folder of the run: %w", err)
	}
	config, flags := "", s.flags()
	if s.way != wayWSS {
		flags = append(flags, "--protocol", s.way)
	}
	if s.influxDB {
		db, file, err := startInfluxDB(ctx, dir)
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = db.Kill() }() // its data goes with the folder
		config = file
	}
	var via *broker
	if s.way == wayBroker {
		if via, config, err = startBroker(ctx, dir); err != nil {
			return 0, 0, err
		}
		defer via.kill()
		flags = append(flags, "--mqtt-url", "tcp://"+via.address)
	}
	h, err := l.startHub(ctx, dataFolder(dir), config, anyPort)
	if err != nil {
		return 0, 0, err
	}
	defer h.discard()
	sim, err := l.startSim(h, flags...)
	if err != nil {
		return 0, 0, err
	}
	defer sim.kill()
	first, last, err := s.watch(ctx, l, h, sim)
	if err != nil {
		return 0, 0, err
	}
	sim.kill()
	if via != nil {
		via.kill() // with what it has queued: that was not received
	}
	drained, err := s.drain(ctx, h)
	if err != nil {
		return 0, 0, err
	}
	return s.judge(l, first, last, drained)
}

// watch waits for the first readings and the warm-up, and takes the two instants of the window.
func (s saturation) watch(ctx context.Context, l *lab, h *hub, sim *child) (first, last instant, err error) {
	err = until(ctx, "the first readings", pollEvery, startLimit, func() (bool, error) {
		audit, err := h.api.Audit(ctx, "")
		return audit.Total.Stored > 0, errors.Join(err, h.alive(), sim.alive())
	})
	if err != nil {
		return first, last, err
	}
	if err := wait(ctx, l.pace.warmUp); err != nil {
		return first, last, err
	}
	if first, err = takeInstant(ctx, h, sim); err != nil {
		return first, last, err
	}
	if err := wait(ctx, l.pace.window); err != nil {
		return first, last, err
	}
	last, err = takeInstant(ctx, h, sim)
	return first, last, err
}

// drain waits until everything that was received is stored: the journal takes readings faster than a store, and what is
// only put off belongs to the cost too.
func (s saturation) drain(ctx context.Context, h *hub) (drained instant, err error) {
	err = until(ctx, "the store to have everything", 5*pollEvery, drainLimit, func() (bool, error) {
		drained.at = time.Now()
		var err error
		if drained.cpu, err = cpuTime(h.pid()); err != nil {
			return false, err
		}
		audit, err := h.api.Audit(ctx, "")
		drained.readings = audit.Total
		return audit.Total.Stored >= audit.Total.Received, errors.Join(err, h.alive())
	})
	return drained, err
}

// judge computes the figures, or says why there are none.
func (s saturation) judge(l *lab, first, last, drained instant) (cost, perSecond float64, err error) {
	seconds := last.at.Sub(first.at).Seconds()
	received := float64(last.readings.Received-first.readings.Received) / seconds
	perSecond = float64(last.readings.Stored-first.readings.Stored) / seconds
	asked := s.rate * float64(s.devices)
	l.tell("received %.0f/s, stored %.0f/s, asked %.0f/s; processor: hub %.0f %%, device-sim %.0f %% of a core; all stored after %.1f s more",
		received, perSecond, asked, 100*(last.cpu-first.cpu).Seconds()/seconds, 100*(last.simCPU-first.simCPU).Seconds()/seconds,
		drained.at.Sub(last.at).Seconds())
	count := drained.readings
	if wrong := count.RefusedTotal() + count.Quarantined + count.Duplicate; wrong > 0 || count.Missing() != 0 {
		return 0, 0, fmt.Errorf("%d readings were refused, quarantined or doubled, %d are missing", wrong, count.Missing())
	}
	readings := count.Received - first.readings.Received
	if readings == 0 || perSecond == 0 {
		return 0, 0, errors.New("no readings came through")
	}
	if perSecond > saturated*asked {
		return 0, 0, fmt.Errorf("not saturated: %.0f readings/s came through of %.0f asked for", perSecond, asked)
	}
	// What was received before the first instant and stored after it is paid for, but not counted.
	return float64((drained.cpu-first.cpu)/time.Microsecond) / float64(readings), perSecond, nil
}
