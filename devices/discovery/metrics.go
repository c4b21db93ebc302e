package discovery

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are since the hub's start.
type counts struct {
	seen, invalid, ignored, evicted   atomic.Uint64 // sightings
	admitted, full, postponed, failed atomic.Uint64 // what came of those that a rule is for
}

// register makes the list's metrics.
func (l *List) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	return to.Register(&collector{
		list:    l,
		onList:  prometheus.NewDesc("hub_discovered", "Devices that were seen on a bridge and are not admitted.", nil, nil),
		ignored: prometheus.NewDesc("hub_discovered_ignored", "Devices that operators do not want to see.", nil, nil),
		seen:    prometheus.NewDesc("hub_discovered_sightings_total", "Messages of devices that are not in the registry, by what became of them: listed, ignored, invalid (no device id).", []string{"outcome"}, nil),
		evicted: prometheus.NewDesc("hub_discovered_evicted_total", "Devices that left the list because it was full.", nil, nil),
		rules:   prometheus.NewDesc("hub_discovered_admissions_total", "What rules did about sightings: admitted, full (the rule has all its devices), postponed (too many at once), failed.", []string{"outcome"}, nil),
	})
}

type collector struct {
	list                                  *List
	onList, ignored, seen, evicted, rules *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.onList, c.ignored, c.seen, c.evicted, c.rules} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	l := c.list
	l.mu.Lock()
	onList, ignored := l.order.Len(), len(l.ignored)
	l.mu.Unlock()
	to <- prometheus.MustNewConstMetric(c.onList, prometheus.GaugeValue, float64(onList))
	to <- prometheus.MustNewConstMetric(c.ignored, prometheus.GaugeValue, float64(ignored))
	to <- prometheus.MustNewConstMetric(c.evicted, prometheus.CounterValue, float64(l.counts.evicted.Load()))
	unwanted := l.counts.ignored.Load()
	for outcome, n := range map[string]uint64{"listed": l.counts.seen.Load() - unwanted, "ignored": unwanted, "invalid": l.counts.invalid.Load()} {
		to <- prometheus.MustNewConstMetric(c.seen, prometheus.CounterValue, float64(n), outcome)
	}
	for outcome, n := range map[string]uint64{
		"admitted": l.counts.admitted.Load(), "full": l.counts.full.Load(), "postponed": l.counts.postponed.Load(), "failed": l.counts.failed.Load(),
	} {
		to <- prometheus.MustNewConstMetric(c.rules, prometheus.CounterValue, float64(n), outcome)
	}
}
