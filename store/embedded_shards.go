package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/services/meta"
)

const (
	// longestSpan is the time that one shard covers without a retention. A shard costs nine open files and 0.7 MB even if
	// it holds one point, and one frame of a device can name any time that is not too old: 26 years are 27 such shards,
	// and would be 1400 of the engine's default of a week.
	longestSpan = 52 * 7 * 24 * time.Hour
	// keptSpans divides a retention into shards: a reading is kept longer than asked for by at most one part of so many.
	keptSpans = 8
)

// shardSpan is the time that one shard covers: whole hours (knownSpan divides them).
func shardSpan(retention time.Duration) time.Duration {
	if retention == 0 {
		return longestSpan
	}
	return min(longestSpan, max(meta.MinRetentionPolicyDuration, (retention/keptSpans).Truncate(time.Hour)))
}

// setShards sets the retention and the shards' span. Shard groups of another span, made by an earlier version or under
// another retention, stay as they are.
func (e *engine) setShards(retention time.Duration) error {
	span := shardSpan(retention)
	update := &meta.RetentionPolicyUpdate{Duration: &retention, ShardGroupDuration: &span}
	if err := e.meta.UpdateRetentionPolicy(embeddedDB, embeddedPolicy, update, true); err != nil {
		return fmt.Errorf("set retention: %w", err)
	}
	data := e.meta.Data()
	policy, err := data.RetentionPolicy(embeddedDB, embeddedPolicy)
	if err != nil {
		return fmt.Errorf("set retention: %w", err)
	}
	gaps := gapsAround(policy.ShardGroups, span)
	if len(gaps) == 0 {
		return nil
	}
	for _, gap := range gaps {
		data.MaxShardGroupID++
		data.MaxShardID++
		policy.ShardGroups = append(policy.ShardGroups, meta.ShardGroupInfo{
			ID: data.MaxShardGroupID, StartTime: gap.from, EndTime: gap.to, Shards: []meta.ShardInfo{{ID: data.MaxShardID}},
		})
	}
	slices.SortFunc(policy.ShardGroups, func(a, b meta.ShardGroupInfo) int { return a.EndTime.Compare(b.EndTime) })
	if err := e.meta.SetData(&data); err != nil {
		return fmt.Errorf("set retention: %w", err)
	}
	return nil
}

// period is from inclusive, to exclusive.
type period struct{ from, to time.Time }

// gapsAround gives what is free in the windows of span that existing groups lie in. Left to itself the engine would cover
// such a window with a new group, over the old ones, and a point that is written again could go to the other of two shards
// that cover its time: it would be there twice. A group is an entry in the metadata; its shard is made by its first point.
func gapsAround(groups []meta.ShardGroupInfo, span time.Duration) []period {
	var taken []period
	windows := map[time.Time]bool{}
	for _, g := range groups {
		if g.Deleted() {
			continue
		}
		taken = append(taken, period{g.StartTime, g.EndTime})
		windows[g.StartTime.Truncate(span)] = true
		windows[g.EndTime.Add(-1).Truncate(span)] = true
	}
	slices.SortFunc(taken, func(a, b period) int { return a.from.Compare(b.from) })
	var gaps []period
	for start := range windows {
		// The engine's times are nanoseconds in 64 bits; its last group ends there.
		free, end := later(start, time.Unix(0, models.MinNanoTime)), earlier(start.Add(span), time.Unix(0, models.MaxNanoTime+1))
		for _, t := range taken {
			if !t.from.Before(end) {
				break
			}
			if free.Before(t.from) {
				gaps = append(gaps, period{free.UTC(), t.from})
			}
			free = later(free, t.to)
		}
		if free.Before(end) {
			gaps = append(gaps, period{free.UTC(), end.UTC()})
		}
	}
	return gaps
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
