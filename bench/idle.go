package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// spareFiles is what a hub needs besides one file a device.
const spareFiles = 200

// connectLimit is how long a fleet may take to register and connect.
const connectLimit = 90 * time.Second

// idleCosts are those of devices that are connected and silent.
type idleCosts struct {
	rssKB      float64 // each
	admission  float64 // ms of processor each
	idle       float64 // percent of one core, all together
	reconnects time.Duration
}

func idleFlags(devices int) []string {
	return []string{"--devices", strconv.Itoa(devices), "--rate", "0", "--connect-rate", "500"}
}

// measureIdle lets a fleet register and connect, stops the hub, and starts it again while the fleet is suspended. That
// hub knows the devices and has none connected: from here on it only admits devices, whose tokens stay as they are.
// With silence the processor is measured over that time as well.
func measureIdle(ctx context.Context, l *lab, dir string, devices int, silence time.Duration) (idleCosts, error) {
	limit, err := openFiles()
	if err != nil {
		return idleCosts{}, err
	}
	if limit < devices+spareFiles {
		return idleCosts{}, fmt.Errorf("%d devices need %d open files a process, the limit is %d (ulimit -Hn)", devices, devices+spareFiles, limit)
	}
	h, err := l.startHub(ctx, dataFolder(dir), "", anyPort)
	if err != nil {
		return idleCosts{}, err
	}
	defer func() { h.discard() }()
	sim, err := l.startSim(h, idleFlags(devices)...)
	if err != nil {
		return idleCosts{}, err
	}
	defer sim.kill()
	if err := h.awaitOnline(ctx, devices, connectLimit, sim); err != nil {
		return idleCosts{}, err
	}
	if err := h.stop(); err != nil {
		return idleCosts{}, err
	}
	h.api.Close()
	if err := suspend(sim.cmd.Process); err != nil {
		return idleCosts{}, fmt.Errorf("suspend device-sim: %w", err)
	}
	next, err := l.again(ctx, h)
	if err != nil {
		return idleCosts{}, err
	}
	h = next
	return admit(ctx, l, h, sim, devices, silence)
}

// admit lets the suspended fleet come to the hub and measures the difference.
func admit(ctx context.Context, l *lab, h *hub, sim *child, devices int, silence time.Duration) (idleCosts, error) {
	rssBefore, err := l.settledRSS(ctx, h, "before")
	if err != nil {
		return idleCosts{}, err
	}
	cpuBefore, err := cpuTime(h.pid())
	if err != nil {
		return idleCosts{}, err
	}
	began := time.Now()
	if err := resume(sim.cmd.Process); err != nil {
		return idleCosts{}, fmt.Errorf("resume device-sim: %w", err)
	}
	if err := h.awaitOnline(ctx, devices, connectLimit, sim); err != nil {
		return idleCosts{}, err
	}
	back := time.Since(began)
	// What an admission leaves to be done, such as noting the presence, is over once the memory has settled.
	rssAfter, err := l.settledRSS(ctx, h, "after")
	if err != nil {
		return idleCosts{}, err
	}
	cpuAfter, err := cpuTime(h.pid())
	if err != nil {
		return idleCosts{}, err
	}
	costs := idleCosts{
		rssKB:      (rssAfter - rssBefore) / float64(devices),
		admission:  milliseconds(cpuAfter-cpuBefore) / float64(devices),
		reconnects: back,
	}
	l.tell("%d devices came within %.1f s; hub %.0f KB before, %.0f KB after", devices, back.Seconds(), rssBefore, rssAfter)
	if silence == 0 {
		return costs, nil
	}
	start := time.Now()
	if err := wait(ctx, silence); err != nil {
		return idleCosts{}, err
	}
	cpuLast, err := cpuTime(h.pid())
	if err != nil {
		return idleCosts{}, err
	}
	costs.idle = 100 * (cpuLast - cpuAfter).Seconds() / time.Since(start).Seconds()
	left, err := h.online(ctx)
	if err != nil {
		return idleCosts{}, err
	}
	if left != devices {
		return idleCosts{}, fmt.Errorf("%d of %d devices are still connected", left, devices)
	}
	return costs, nil
}

// settledRSS is the hub's resident memory once it stays the same.
func (l *lab) settledRSS(ctx context.Context, h *hub, when string) (float64, error) {
	rss, stable, err := settled(ctx, func() (float64, error) { return residentKB(h.pid()) })
	if err == nil && !stable {
		l.tell("the memory %s did not settle within %v", when, settleLimit)
	}
	return rss, err
}
