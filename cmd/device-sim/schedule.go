package main

import (
	"context"
	"fmt"
	"time"

	"telemetryhub/cmd/device-sim/readings"
)

// tick is how often the one scheduler of all made-up devices looks at the clock. Readings are due at their own times
// all the same, and bear them.
const tick = 5 * time.Millisecond

// synthesize measures rate readings a second on each device until ctx ends. The devices are spread over the period:
// counted over all devices, reading g is due at g/(devices*rate), and is device g mod devices'.
func synthesize(ctx context.Context, devices []*device, rate float64, start time.Time) {
	total := rate * float64(len(devices)) // readings/s
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var due uint64
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for until := uint64(now.Sub(start).Seconds() * total); due < until; due++ {
				at := start.Add(time.Duration(float64(due) / total * float64(time.Second)))
				devices[due%uint64(len(devices))].measure(at.UnixMilli())
			}
		}
	}
}

// replayed is a file with the devices of its nodes.
type replayed struct {
	file    *readings.File
	devices []*device // by node
}

// loadReplay reads the files; each must be of another location, as that names the devices.
func loadReplay(paths []string) ([]*readings.File, error) {
	var files []*readings.File
	for _, path := range paths {
		f, err := readings.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, other := range files {
			if other.Location == f.Location {
				return nil, fmt.Errorf("%s and %s are both of location %s, which names the devices: replay them one after the other", other.Path, f.Path, f.Location)
			}
		}
		files = append(files, f)
	}
	return files, nil
}

// atOnce measures the whole file now, in its order, with shift ms added to its times.
func (r replayed) atOnce(shift int64) {
	for _, step := range r.file.Steps {
		r.devices[step.Node].replay(r.file.At(step)+shift, true)
	}
}

// paced measures the file once at speed times its real pace. A speed of 1 or more shifts the times so that the newest
// is measured when the replay ends, a slower one so that the oldest is measured when it begins: so no time is ever
// ahead of the clock.
func (r replayed) paced(ctx context.Context, speed float64, start time.Time) {
	oldest, newest := r.file.Span()
	shift := start.UnixMilli() - oldest
	if speed >= 1 {
		shift = start.UnixMilli() + int64(float64(newest-oldest)/speed) - newest
	}
	for _, step := range r.file.Steps {
		at := r.file.At(step)
		due := start.Add(time.Duration(float64(at-oldest) / speed * float64(time.Millisecond)))
		if !sleep(ctx, time.Until(due)) {
			return
		}
		r.devices[step.Node].replay(at+shift, true)
	}
}

// replayPause separates the end of a file from its beginning, when it is replayed again and again.
const replayPause = time.Second

// live measures the file at its real pace, again and again, each reading at the time it is sent. A line out of order
// is sent with the one before it.
func (r replayed) live(ctx context.Context) {
	oldest, newest := r.file.Span()
	span := time.Duration(newest-oldest)*time.Millisecond + replayPause
	for start := time.Now(); ; start = start.Add(span) {
		for _, step := range r.file.Steps {
			due := start.Add(time.Duration(r.file.At(step)-oldest) * time.Millisecond)
			if !sleep(ctx, time.Until(due)) {
				return
			}
			r.devices[step.Node].replay(time.Now().UnixMilli(), false)
		}
	}
}
