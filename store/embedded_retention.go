package store

import (
	"context"
	"time"

	"github.com/influxdata/influxdb/services/meta"
)

// sweepInterval is how often shards are looked for that have passed their retention; a shard spans at least an hour.
const sweepInterval = 30 * time.Minute

// startSweep deletes what has passed its retention now, and then at each interval until close.
func (e *engine) startSweep() {
	e.deleteExpired()
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.sweep.Go(func() {
		tick := time.NewTicker(sweepInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				e.deleteExpired()
			case <-ctx.Done():
				return
			}
		}
	})
}

// deleteExpired deletes whole shards whose last point is older than the retention. What fails is tried again at the next
// sweep, by the mark that the group bears.
func (e *engine) deleteExpired() {
	for _, policy := range e.meta.Database(embeddedDB).RetentionPolicies {
		for _, group := range policy.ExpiredShardGroups(time.Now().UTC()) {
			if err := e.meta.DeleteShardGroup(embeddedDB, policy.Name, group.ID); err != nil {
				e.log.Warn("expired shard not deleted", "shard_group", group.ID, "error", err)
			}
		}
	}
	for _, policy := range e.meta.Database(embeddedDB).RetentionPolicies {
		for _, group := range policy.DeletedShardGroups() {
			e.deleteShards(group)
		}
	}
	if err := e.meta.PruneShardGroups(); err != nil {
		e.log.Warn("deleted shards not forgotten", "error", err)
	}
}

func (e *engine) deleteShards(group *meta.ShardGroupInfo) {
	for _, shard := range group.Shards {
		if e.data.Shard(shard.ID) == nil {
			continue // already gone
		}
		err := e.data.DeleteShard(shard.ID)
		e.sync.forget()
		e.series.forget()
		if err != nil {
			e.log.Warn("expired shard not deleted", "shard", shard.ID, "error", err)
			continue
		}
		e.log.Info("expired shard deleted", "shard", shard.ID, "from", group.StartTime, "to", group.EndTime)
	}
}
