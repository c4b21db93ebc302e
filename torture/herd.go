package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Promises about a herd.
const (
	lateMost   = 30 * time.Second // from the slot that a device was told until it is connected
	liveAckP99 = 100.0            // ms, of devices that were not cut, while the herd comes back

	lookEvery = 500 * time.Millisecond // at the hub's metrics, which cost it some ms with thousands of devices
)

// herd cuts the network of 5,000 devices for a minute, so silently that the hub takes them for connected, and lets all
// of them come back at one moment, while 200 others that were not cut send on. The 5,000 would have processors of their
// own; here their simulator gets what the others and the hub leave (nice 10).
func herd(ctx context.Context, s *scene) error {
	size, live := scale(s.lab, 200, 5000), scale(s.lab, 50, 200)
	rate := scale(s.lab, 25, 150) // devices let in a second: less than come, also on a busy machine
	config := fmt.Sprintf("devices:\n  connect_rate: %d\n", rate)
	if err := s.startHub(ctx, filepath.Join(s.dir, "data"), config); err != nil {
		return err
	}
	net, err := newNetwork(s.hub.address)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { net.close(); return nil })
	far, err := s.simulate(load{url: net.url(), background: true, args: []string{
		"--devices", strconv.Itoa(size), "--rate", scale(s.lab, "1", "0.1"), "--prefix", "far", "--connect-rate", strconv.Itoa(rate * 4 / 5),
	}})
	if err != nil {
		return err
	}
	if _, err := s.hub.metric(ctx, "hub_connections", float64(size), startLimit+time.Duration(size)*20*time.Millisecond); err != nil {
		return err
	}
	calm, near, err := s.cutAndRestore(ctx, net, size, live)
	if err != nil {
		return err
	}
	for _, m := range []*sim{near, far} {
		if err := m.finish(); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil { // the far ones send what they kept, and the near ones are not measured then
			return err
		}
	}
	if err := s.conclude(ctx, calm, near, far); err != nil {
		return err
	}
	return s.judgeHerd(ctx, far, calm, near, size)
}

// cutAndRestore plays the cut, and returns the simulations of those that were not cut: one while the others are away, and
// one while they come back, which goes on.
func (s *scene) cutAndRestore(ctx context.Context, net *network, size, live int) (calm, near *sim, err error) {
	cut := scale(s.lab, 5*time.Second, time.Minute)
	alive := load{devices: live, rate: 5, duration: cut / 4, args: []string{"--prefix", "near"}}
	began := time.Now()
	net.sever()
	if calm, err = s.simulate(alive); err != nil {
		return nil, nil, err
	}
	if _, err := calm.judge(ctx, judgeLimit); err != nil {
		return nil, nil, err
	}
	before, err := s.hub.audit(ctx)
	if err != nil {
		return nil, nil, err
	}
	alive.duration = 0
	if near, err = s.simulate(alive); err != nil {
		return nil, nil, err
	}
	if _, err := s.hub.received(ctx, before.Total.Received+uint64(live)); err != nil {
		return nil, nil, err
	}
	if err := pause(ctx, time.Until(began.Add(cut))); err != nil {
		return nil, nil, err
	}
	return calm, near, s.restore(ctx, net, size, began)
}

// restore lets the network be whole again, and returns when all are back.
func (s *scene) restore(ctx context.Context, net *network, size int, began time.Time) error {
	admitted, err := s.hub.metric(ctx, "hub_admissions_total", 0, startLimit)
	if err != nil {
		return err
	}
	s.fact("cut_seconds", int(time.Since(began).Seconds()))
	s.happened("cut", net.restore())
	began = time.Now()
	_, err = s.hub.metric(ctx, "hub_admissions_total", admitted+float64(size), lateMost+time.Minute) // and what the slots take
	s.fact("back_seconds", math.Round(time.Since(began).Seconds()*10)/10)
	return err
}

// judgeHerd holds what the devices saw, and what the hub counted, against the promises.
func (s *scene) judgeHerd(ctx context.Context, far, calm, near *sim, size int) error {
	cut, err := far.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	quiet, err := calm.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	live, err := near.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	s.happened("told", int(cut.Postponed.Refused))
	s.never("refused_again", int(cut.Postponed.Again))
	s.fact("late_ms_p99", cut.Postponed.LateMs.P99)
	s.fact("late_ms_max", cut.Postponed.LateMs.Max)
	s.fact("live_p99_ms_without", quiet.AckMs.P99)
	s.fact("live_p99_ms", live.AckMs.P99)
	s.fact("live_reconnects", live.Reconnects)
	if cut.Reconnects < uint64(size) {
		s.problem("%d of %d devices came back", cut.Reconnects, size)
	}
	shed, err := s.hub.metric(ctx, "hub_handshakes_shed_total", 0, startLimit)
	if err != nil {
		return err
	}
	s.fact("shed", int(shed))
	if s.lab.quick || s.lab.races != "" {
		return nil // it runs beside other tests
	}
	if late := time.Duration(cut.Postponed.LateMs.Max) * time.Millisecond; late > lateMost {
		s.problem("a device was back %v after its slot, want at most %v", late, lateMost)
	}
	if live.AckMs.P99 >= liveAckP99 {
		s.problem("p99 ack of the others was %v ms, want less than %v", live.AckMs.P99, liveAckP99)
	}
	return nil
}

// metric waits until the hub's metric of that name, without labels, is at least so much, and returns it.
func (h *hub) metric(ctx context.Context, name string, least float64, limit time.Duration) (value float64, err error) {
	err = untilEvery(ctx, lookEvery, fmt.Sprintf("%s of %v", name, least), limit, func() (bool, error) {
		text, err := h.api.Metrics(ctx)
		if err != nil {
			return false, errors.Join(onlyFinal(err), h.alive())
		}
		for line := range strings.Lines(text) {
			if text, is := strings.CutPrefix(line, name+" "); is {
				value, err = strconv.ParseFloat(strings.TrimSpace(text), 64)
				return value >= least, err
			}
		}
		return false, fmt.Errorf("the hub has no metric %s", name)
	})
	if err != nil {
		return value, fmt.Errorf("%w; it is %v", err, value)
	}
	return value, nil
}
