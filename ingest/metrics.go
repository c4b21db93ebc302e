package ingest

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of the journal and the writer. The terms of the audit are collected when they are asked for.
type metrics struct {
	commitSeconds prometheus.Histogram
	commitFrames  prometheus.Histogram
	commitBytes   prometheus.Counter
	writeSeconds  prometheus.Histogram
	writePoints   prometheus.Counter
	retries       prometheus.Counter
	damaged       prometheus.Counter
	replayed      prometheus.Counter
	heldFrames    prometheus.Counter
	heldSeconds   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hub_commit_seconds", Help: "Time from an envelope's publishing to its fsync.", Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16)}),
		commitFrames:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hub_commit_frames", Help: "Frames in an envelope.", Buckets: prometheus.ExponentialBuckets(1, 2, 14)}),
		commitBytes:   prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_commit_bytes_total", Help: "Bytes of envelopes."}),
		writeSeconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hub_store_write_seconds", Help: "Time until the store had taken a batch, tries included.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}),
		writePoints:   prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_store_points_total", Help: "Points given to the store."}),
		retries:       prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_store_retries_total", Help: "Writes that the store did not take and that were tried again."}),
		damaged:       prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_journal_damaged_total", Help: "Envelopes that could not be read."}),
	}
	m.replayed = prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_replay_points_total", Help: "Points that replays gave to the store; the account does not count them."})
	m.heldFrames = prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_held_frames_total", Help: "Frames of devices that catch up which waited for their turn, behind live ones."})
	m.heldSeconds = prometheus.NewCounter(prometheus.CounterOpts{Name: "hub_held_seconds_total", Help: "Time that they waited, of all such devices together."})
	reg.MustRegister(m.heldFrames, m.heldSeconds, m.replayed, m.commitSeconds, m.commitFrames, m.commitBytes, m.writeSeconds, m.writePoints, m.retries, m.damaged)
	return m
}

func (m *metrics) committed(took time.Duration, frames, bytes int) {
	m.commitSeconds.Observe(took.Seconds())
	m.commitFrames.Observe(float64(frames))
	m.commitBytes.Add(float64(bytes))
}

func (m *metrics) held(wait time.Duration) {
	m.heldFrames.Inc()
	m.heldSeconds.Add(wait.Seconds())
}

func (m *metrics) stored(took time.Duration, points int) {
	m.writeSeconds.Observe(took.Seconds())
	m.writePoints.Add(float64(points))
}

// Describe implements prometheus.Collector: the audit's terms over all devices, and the backlog.
func (in *Ingest) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(in, c) }

// Collect implements prometheus.Collector.
func (in *Ingest) Collect(c chan<- prometheus.Metric) {
	readings := prometheus.NewDesc("hub_readings_total", "Readings by what became of them; received is the sum of the others, of hub_refused_total, hub_readings_quarantined and hub_readings_queued.", []string{"outcome"}, nil)
	refused := prometheus.NewDesc("hub_refused_total", "Frames that could not be used.", []string{"reason"}, nil)
	quarantined := prometheus.NewDesc("hub_readings_quarantined", "Readings counted as quarantined; a retry or drop makes it fall.", nil, nil)
	queued := prometheus.NewDesc("hub_readings_queued", "Readings that are durable and wait for the writer.", nil, nil)
	backlog := prometheus.NewDesc("hub_journal_backlog", "Envelopes that wait for the writer.", nil, nil)
	held := prometheus.NewDesc("hub_devices_held", "Devices that catch up and wait for their turn, behind live ones.", nil, nil)
	total := in.Audit().Total
	counter := func(d *prometheus.Desc, n uint64, label ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label...)
	}
	counter(readings, total.Received, "received")
	counter(readings, total.Stored, "stored")
	counter(readings, total.Duplicate, "duplicate")
	for reason, n := range total.Refused {
		counter(refused, n, reason)
	}
	c <- prometheus.MustNewConstMetric(quarantined, prometheus.GaugeValue, float64(total.Quarantined))
	c <- prometheus.MustNewConstMetric(queued, prometheus.GaugeValue, float64(total.Queued))
	c <- prometheus.MustNewConstMetric(held, prometheus.GaugeValue, float64(in.journal.held()))
	c <- prometheus.MustNewConstMetric(backlog, prometheus.GaugeValue, float64(in.Status().Backlog))
}
