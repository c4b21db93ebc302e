package bridge

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A device that acknowledges nothing and subscribes for ever holds no more than what may be retained.
func TestWhatIsStoredForASessionIsBounded(t *testing.T) {
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lost"}, []string{"reason"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(lost)
	stored := func(filter, topic string, bytes int) delivery {
		return delivery{letter: &letter{message: message{topic: topic, payload: make([]byte, bytes)}}, qos: 1, filter: filter}
	}
	topics := func(m *mailbox) (all []string) {
		for _, d := range m.stored {
			all = append(all, d.filter+" "+d.topic)
		}
		return all
	}
	m := &mailbox{metrics: &brokerMetrics{undelivered: lost}, mostStored: 3, mostStoredBytes: 1000}
	for i := range 10 { // what is retained changes between them
		m.putStored([]delivery{stored("#", fmt.Sprint("a", i), 1), stored("#", fmt.Sprint("b", i), 1)})
	}
	if got := fmt.Sprint(topics(m)); got != "[# b8 # a9 # b9]" {
		t.Errorf("stored %s, want the newest", got)
	}
	if families, err := registry.Gather(); err != nil || families[0].GetMetric()[0].GetCounter().GetValue() != 17 {
		t.Errorf("counted %v, %v; want 17", families, err)
	}

	m = &mailbox{metrics: &brokerMetrics{undelivered: lost}, mostStored: 3, mostStoredBytes: 1000}
	m.putStored([]delivery{stored("a", "a", 1)})
	m.putStored([]delivery{stored("#", "a", 1), stored("#", "b", 1)})
	m.putStored([]delivery{stored("#", "a", 1), stored("#", "b", 1)})
	if got := fmt.Sprint(topics(m)); got != "[a a # a # b]" {
		t.Errorf("stored %s, want one for each topic and filter", got)
	}
	m.putStored([]delivery{stored("+", "a", 1)})
	if got := fmt.Sprint(topics(m)); got != "[# a # b + a]" {
		t.Errorf("stored %s: a topic that comes again behind goes first", got)
	}
	m.putStored([]delivery{stored("+", "b", 998)})
	if got := fmt.Sprint(topics(m)); got != "[+ b]" {
		t.Errorf("stored %s: beyond the bound on bytes", got)
	}
}
