package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// quantity is a name and a unit.
type quantity struct{ name, unit string }

// part is one measurement, which yields one or more figures.
type part struct {
	gives []quantity
	ran   string // beside the hub
	run   func(ctx context.Context, l *lab, dir string) ([]float64, error)
}

// pace is how long things are watched.
type pace struct {
	warmUp   time.Duration
	window   time.Duration // of a saturated hub
	ackTime  time.Duration
	commands int
	silence  time.Duration
}

func normalPace() pace {
	return pace{
		warmUp: 3 * time.Second, window: 10 * time.Second, ackTime: 12 * time.Second, commands: 200,
		silence: 50 * time.Second, // more than one keepalive (45 s), so that each device is pinged
	}
}

func quickPace() pace {
	return pace{warmUp: 1 * time.Second, window: 3 * time.Second, ackTime: 5 * time.Second, commands: 100, silence: 10 * time.Second}
}

const (
	maxRate  = 1000 // readings/s of one device: what the simulator can do, as times are told apart by the ms
	fewIdle  = 200
	manyIdle = 2000
)

// parts are all measurements, in the order they are made.
func parts() []part {
	embedded := saturation{devices: 200, batch: 1, rate: maxRate}
	influxDB := saturation{influxDB: true, devices: 200, batch: 1, rate: maxRate}
	// 200 devices do not saturate a hub in this way: the simulator's largest rate is too small.
	batched := saturation{devices: 500, batch: 10, rate: maxRate}
	batchedInflux := saturation{influxDB: true, devices: 500, batch: 10, rate: maxRate}
	return []part{
		{
			gives: []quantity{{"hub_cpu_us_per_reading_embedded", "us"}, {"readings_per_second_embedded", "1/s"}},
			ran:   "hub with the embedded store; " + simLine(embedded.flags()), run: embedded.both,
		},
		{
			gives: []quantity{{"hub_cpu_us_per_reading_influxdb", "us"}, {"readings_per_second_influxdb", "1/s"}},
			ran:   "hub with InfluxDB 1.8.3 on the same machine; " + simLine(influxDB.flags()), run: influxDB.both,
		},
		{
			gives: []quantity{{"hub_cpu_us_per_reading_batch10_influxdb", "us"}, {"readings_per_second_batch10_influxdb", "1/s"}},
			ran:   "hub with InfluxDB 1.8.3 on the same machine; " + simLine(batchedInflux.flags()), run: batchedInflux.both,
		},
		{
			gives: []quantity{{"hub_cpu_us_per_reading_batch10_embedded", "us"}, {"readings_per_second_batch10_embedded", "1/s"}},
			ran:   "hub with the embedded store; " + simLine(batched.flags()), run: batched.both,
		},
		mqttPart("mqtt_wss", wayMQTTWSS, embedded),
		mqttPart("external_broker", wayBroker, embedded),
		{
			gives: []quantity{{"ack_ms_p50", "ms"}, {"ack_ms_p99", "ms"}},
			ran:   "hub with the embedded store; " + simLine(steadyFlags()), run: measureAcks,
		},
		{
			gives: []quantity{{"command_ms_p50", "ms"}, {"command_ms_p99", "ms"}},
			ran:   "hub with the embedded store; " + simLine(steadyFlags()) + "; POST commands?wait=10s ping, one after the other", run: measureCommands,
		},
		{
			gives: []quantity{{"rss_kb_per_idle_device_200", "KB"}},
			ran:   "hub with the embedded store, started again; " + simLine(idleFlags(fewIdle)),
			run: func(ctx context.Context, l *lab, dir string) ([]float64, error) {
				c, err := measureIdle(ctx, l, dir, fewIdle, 0)
				return []float64{c.rssKB}, err
			},
		},
		{
			gives: []quantity{
				{"rss_kb_per_idle_device_2000", "KB"},
				{"hub_cpu_ms_per_admission", "ms"},
				{"reconnect_seconds_2000", "s"},
				{"idle_cpu_percent", "% of a core"},
			},
			ran: "hub with the embedded store, started again; " + simLine(idleFlags(manyIdle)),
			run: func(ctx context.Context, l *lab, dir string) ([]float64, error) {
				c, err := measureIdle(ctx, l, dir, manyIdle, l.pace.silence)
				return []float64{c.rssKB, c.admission, c.reconnects.Seconds(), c.idle}, err
			},
		},
	}
}

func (s saturation) both(ctx context.Context, l *lab, dir string) ([]float64, error) {
	cost, perSecond, err := s.measure(ctx, l, dir)
	return []float64{cost, perSecond}, err
}

// choose keeps the parts that give a figure whose name begins with one of the names; no names keep all.
func choose(all []part, names []string) ([]part, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []part
	used := map[string]bool{}
	for _, p := range all {
		wanted := false
		for _, q := range p.gives {
			for _, name := range names {
				if strings.HasPrefix(q.name, name) {
					used[name], wanted = true, true
				}
			}
		}
		if wanted {
			chosen = append(chosen, p)
		}
	}
	for _, name := range names {
		if !used[name] {
			return nil, fmt.Errorf("-only %s: no figure begins like this; -list shows them", name)
		}
	}
	return chosen, nil
}

func figureNames(all []part) []string {
	var names []string
	for _, p := range all {
		for _, q := range p.gives {
			names = append(names, q.name)
		}
	}
	return slices.Clip(names)
}
