package commands

import (
	"maps"
	"sort"
)

// Stats are the ledger's gauges and counters.
type Stats struct {
	Open           int              // open or unsaved commands
	Queued         int              // of these, those that wait to be sent
	Mirrored       int              // commands in memory
	MirroredBytes  int              // about, of the ended ones
	Unsaved        int              // changes that wait for a writer
	Outcomes       map[State]uint64 // commands that ended, by their first final state
	Late           uint64           // of these, those whose outcome a late answer mended
	Seconds        Histogram        // from accepted to the first final state
	Batches        uint64           // commits of several records
	BatchFailures  uint64           // of these, those that failed and whose records were written one by one
	WriteFailures  uint64           // writes of the bucket that failed and are tried again
	IgnoredAnswers uint64           // second answers, answers to unknown ids, progress of ended commands
	DroppedAnswers uint64           // late answers to old commands that came faster than the bucket could be read
	MissedChanges  uint64           // changes that slow readers of the feed lost
	Damaged        uint64           // records that could not be read
}

// Histogram counts durations.
type Histogram struct {
	Count  uint64
	Sum    float64            // seconds
	Within map[float64]uint64 // by bound in seconds: how many were not longer
}

// bounds of Stats.Seconds, from a round trip on a local network to a day in the queue.
func bounds() []float64 {
	return []float64{0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300, 3600, 86400}
}

// tallied counts the first outcomes. It is guarded by Service.mu.
type tallied struct {
	outcomes map[State]uint64
	late     uint64
	bounds   []float64
	counts   []uint64 // by bound, and those beyond the last
	sum      float64
}

func newTallied() tallied {
	b := bounds()
	t := tallied{outcomes: map[State]uint64{}, bounds: b, counts: make([]uint64, len(b)+1)}
	for _, s := range []State{Done, Failed, Rejected, Expired, Cancelled, Unknown} {
		t.outcomes[s] = 0
	}
	return t
}

// ended counts a command whose first final state is durable.
func (t *tallied) ended(c *Command) {
	t.outcomes[c.State]++
	took := max(0, c.changed().Sub(c.Created).Seconds())
	t.counts[sort.SearchFloat64s(t.bounds, took)]++
	t.sum += took
}

func (t *tallied) histogram() Histogram {
	h := Histogram{Sum: t.sum, Within: map[float64]uint64{}}
	for i, n := range t.counts {
		h.Count += n
		if i < len(t.bounds) {
			h.Within[t.bounds[i]] = h.Count
		}
	}
	return h
}

// Stats returns the gauges and counters.
func (s *Service) Stats() Stats {
	missed := s.feeds.Lost()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Open, st.Mirrored, st.MirroredBytes, st.MissedChanges = s.busy, len(s.mirror.byID), s.mirror.bytes, missed
	st.Outcomes, st.Late, st.Seconds = maps.Clone(s.tallied.outcomes), s.tallied.late, s.tallied.histogram()
	for _, e := range s.mirror.byID {
		if e.unsaved {
			st.Unsaved++
		}
	}
	for _, l := range s.lanes {
		st.Queued += len(l.waiting)
	}
	return st
}
