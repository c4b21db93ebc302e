package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"telemetryhub/api/client"
	"telemetryhub/cmd/device-sim/readings"
)

const (
	registering    = 8                // devices registered at a time
	registerWait   = 60 * time.Second // how long one device's registration is tried while the hub does not answer
	registerPause  = 500 * time.Millisecond
	joinPatience   = 15 * time.Second       // beyond what --connect-rate takes, until readings begin without the missing
	drainPatience  = 60 * time.Second       // without any acknowledgement, after the readings have ended
	gentlePatience = 5 * time.Second        // the same after Ctrl-C, in all
	pollEvery      = 100 * time.Millisecond // of the fleet's counters
)

// fleet is all devices of a run and what they share.
type fleet struct {
	options *options
	log     *slog.Logger
	api     *client.Client // nil without an admin's token
	tally   *tally
	run     uint64 // tells this run's readings apart

	dial    *dialer
	devices []*device
	replays []replayed

	running sync.WaitGroup // all goroutines of devices
}

// build makes the devices, not yet registered.
func (f *fleet) build(files []*readings.File) {
	add := func(id string, source readings.Source) *device {
		d := newDevice(f, len(f.devices), id, source)
		d.slow, d.mute = d.has(faultSlowReader), d.has(faultPongOnly)
		d.keep = slices.Contains(f.options.Faults, faultDuplicate)
		f.devices = append(f.devices, d)
		return d
	}
	for _, file := range files {
		r := replayed{file: file}
		for _, node := range file.Nodes {
			r.devices = append(r.devices, add(node.Device, node))
		}
		f.replays = append(f.replays, r)
	}
	if len(files) > 0 {
		return
	}
	wave := readings.NewWave()
	source := func(i int) readings.Source { return readings.NewSynth(wave, f.options.Seed, uint64(i), f.run) }
	if f.options.Device != "" {
		add(f.options.Device, source(0))
		return
	}
	for i := range f.options.Devices {
		add(fmt.Sprintf(idForm, f.options.Prefix, i+1), source(i))
	}
}

// register creates the devices in the hub, or takes a new token for those that exist.
func (f *fleet) register(ctx context.Context, progress func(done int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	var next, done atomic.Int64
	for range min(registering, len(f.devices)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(f.devices)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := f.registerOne(ctx, f.devices[i]); err != nil {
					cancel(fmt.Errorf("register %s: %w", f.devices[i].id, err))
					return
				}
				progress(int(done.Add(1)))
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

func (f *fleet) registerOne(ctx context.Context, d *device) error {
	kind := "simulated"
	if len(f.replays) > 0 {
		kind = "room-climate"
	}
	for began, waiting := time.Now(), false; ; waiting = true {
		created, err := f.api.CreateDevice(ctx, client.NewDevice{ID: d.id, Type: kind, Tags: []string{"device-sim"}})
		token := created.Token
		if client.IsStatus(err, http.StatusConflict) {
			token, err = f.api.NewToken(ctx, d.id)
		}
		d.credentials.set(token)
		if err == nil && f.options.MTLS {
			d.certificate, err = f.certify(ctx, d.id)
		}
		if err == nil || !maybeLater(err) || time.Since(began) > registerWait {
			return err
		}
		if !waiting && d.index == 0 {
			f.log.Warn("waiting for the hub", "error", err)
		}
		if !sleep(ctx, registerPause) {
			return ctx.Err()
		}
	}
}

// certify makes a key for a device and has the hub sign it.
func (f *fleet) certify(ctx context.Context, device string) (*tls.Certificate, error) {
	key, csr, err := client.NewDeviceKey(device)
	if err != nil {
		return nil, err
	}
	made, err := f.api.NewCertificate(ctx, device, string(csr))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(made.Certificate), key)
	return &pair, err
}

// maybeLater says whether a request may succeed without anybody's help: a hub that does not answer (yet), or is busy.
func maybeLater(err error) bool {
	if problem, is := errors.AsType[*client.Problem](err); is {
		return problem.Status == http.StatusTooManyRequests || problem.Status >= 500
	}
	var unreachable *client.UnreachableError
	return errors.As(err, &unreachable) && isPassing(unreachable.Err)
}

// connect makes one connection of a device.
func (f *fleet) connect(ctx context.Context, d *device) (link, error) {
	if f.options.Protocol == protocolWSS {
		return f.dial.connectWSS(ctx, d)
	}
	return f.dial.connectMQTT(ctx, d)
}

// start lets the devices live until ctx ends, their first connections at --connect-rate.
func (f *fleet) start(ctx context.Context) {
	limit := rate.Inf
	if f.options.ConnectRate > 0 {
		limit = rate.Limit(f.options.ConnectRate)
	}
	limiter := rate.NewLimiter(limit, 1)
	f.running.Go(func() {
		for _, d := range f.devices {
			if limiter.Wait(ctx) != nil {
				return
			}
			f.running.Go(func() { d.live(ctx) })
			if d.has(faultClone) {
				twin := d.twin()
				f.running.Go(func() { twin.live(ctx) })
			}
			if d.mute {
				f.tally.inject(faultPongOnly)
			}
		}
	})
}

// awaitJoined waits until each device has been connected once, or should have been.
func (f *fleet) awaitJoined(ctx context.Context) {
	patience := joinPatience
	if f.options.ConnectRate > 0 {
		patience += time.Duration(float64(len(f.devices)) / f.options.ConnectRate * float64(time.Second))
	}
	deadline := time.Now().Add(patience)
	for f.tally.connected.Load() < uint64(len(f.devices)) && time.Now().Before(deadline) {
		if !sleep(ctx, pollEvery/10) {
			return
		}
	}
	if missing := uint64(len(f.devices)) - f.tally.connected.Load(); missing > 0 {
		f.log.Warn("not all devices are connected", "missing", missing, "last_error", f.tally.lastCause())
	}
}

// produce sends readings until the file or ctx ends, and plays the faults meanwhile.
func (f *fleet) produce(ctx context.Context, start time.Time) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var faults sync.WaitGroup
	faults.Go(func() { f.playFaults(ctx) })
	defer faults.Wait()
	defer stop()
	if len(f.replays) == 0 {
		if f.options.Rate > 0 {
			synthesize(ctx, f.devices, f.options.Rate, start)
		}
		<-ctx.Done()
		return
	}
	var schedules sync.WaitGroup
	for _, r := range f.replays {
		schedules.Go(func() {
			switch f.options.replayMode() {
			case replayAtOnce:
				r.atOnce(0)
			case replayPaced:
				r.paced(ctx, *f.options.Speed, start)
			default:
				_, newest := r.file.Span()
				r.atOnce(start.UnixMilli() - newest)
				r.live(ctx)
			}
		})
	}
	schedules.Wait()
	if f.options.replayMode() == replayAtOnce {
		f.finish()
		f.drain(ctx, drainPatience) // faults go on until all is acknowledged
	}
}

func (f *fleet) finish() {
	for _, d := range f.devices {
		d.finish()
	}
}

// drain waits until all that was measured is acknowledged, ctx ends, or no acknowledgement came for that long.
func (f *fleet) drain(ctx context.Context, patience time.Duration) {
	acked, since := f.tally.acked.Load(), time.Now()
	for f.outstanding() > 0 {
		if now := f.tally.acked.Load(); now != acked {
			acked, since = now, time.Now()
		}
		if time.Since(since) > patience || !sleep(ctx, pollEvery/5) {
			return
		}
	}
}

func (f *fleet) outstanding() uint64 {
	var sum uint64
	for _, d := range f.devices {
		sum += d.outstanding()
	}
	return sum
}
