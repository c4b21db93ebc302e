package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxdb/services/meta"
	"github.com/influxdata/influxdb/tsdb"
	_ "github.com/influxdata/influxdb/tsdb/engine" // registers tsm1
	_ "github.com/influxdata/influxdb/tsdb/index"  // registers tsi1
)

const (
	// embeddedDB is the engine's database; a server started on the folder shows it by this name.
	embeddedDB     = "telemetry"
	embeddedPolicy = "autogen"
	// minRetention is the engine's own bound.
	minRetention = meta.MinRetentionPolicyDuration
)

// EmbeddedConfig says where the embedded engine keeps its files and for how long.
type EmbeddedConfig struct {
	Dir string `yaml:"dir"` // made if missing; one process at a time
	// Retention is how long points are kept after their time, whole shards at once; 0 keeps them for ever. Older points
	// are rejected.
	Retention time.Duration `yaml:"retention"`
	// QueryTime is how long one query may run; 0: 10 s. A write of a new series waits for the queries that run.
	QueryTime time.Duration `yaml:"query_time"`
	// LongLog is the size in bytes of a shard's write-ahead log above which it is written into a TSM file before the
	// engine serves; 0: 25 MB, at which the engine itself begins to.
	LongLog int64 `yaml:"long_log"`
}

// defaultQueryTime is what the engine takes for some ten million values on one core.
const defaultQueryTime = 10 * time.Second

// validate reports all faults at once.
func (c EmbeddedConfig) validate() error {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("dir: is missing"))
	}
	if c.Retention != 0 && c.Retention < minRetention {
		faults = append(faults, fmt.Errorf("retention: %s is shorter than %s; 0 keeps points for ever", c.Retention, minRetention))
	}
	if c.QueryTime < 0 {
		faults = append(faults, fmt.Errorf("query_time: %s is negative", c.QueryTime))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("store: embedded: %w", err)
	}
	return nil
}

// engine is InfluxDB's storage in this process: what its server has, without listeners.
type engine struct {
	dir    string
	log    *slog.Logger
	meta   *meta.Client
	data   *tsdb.Store
	writer *coordinator.PointsWriter
	query  *query.Executor
	sync   engineSync
	series seriesGate

	stop  context.CancelFunc // ends sweep
	sweep sync.WaitGroup
}

// OpenEmbedded opens the engine in c.Dir and replays its write-ahead log: about 0.2 s after a clean stop, seconds after
// a crash with much in the log.
func OpenEmbedded(ctx context.Context, c EmbeddedConfig, log *slog.Logger) (*Store, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store: embedded: %w", err)
	}
	e, err := openEngine(c, log)
	if err != nil {
		return nil, fmt.Errorf("store: embedded: %w", err)
	}
	s := newStore("embedded", placeOf("", embeddedDB), connection{
		url:    "http://embedded.invalid", // never resolved: RFC 6761
		client: &http.Client{Transport: e},
	}, log)
	s.check = func(context.Context) error { return e.check() }
	s.closeOnce = e.close
	return s, nil
}

func openEngine(c EmbeddedConfig, log *slog.Logger) (*engine, error) {
	e := &engine{dir: c.Dir, log: log}
	metaDir, dataDir, walDir := filepath.Join(c.Dir, "meta"), filepath.Join(c.Dir, "data"), filepath.Join(c.Dir, "wal")
	for _, dir := range []string{metaDir, dataDir, walDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	logger := newEngineLogger(log)

	metaConfig := meta.NewConfig()
	metaConfig.Dir, metaConfig.LoggingEnabled = metaDir, false
	e.meta = meta.NewClient(metaConfig)
	if err := e.meta.Open(); err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	if _, err := e.meta.CreateDatabase(embeddedDB); err != nil {
		return nil, fmt.Errorf("create database: %w", err)
	}
	if err := e.setShards(c.Retention); err != nil {
		return nil, err
	}

	e.data = tsdb.NewStore(dataDir)
	config := tsdb.NewConfig()
	config.Dir, config.WALDir = dataDir, walDir
	config.Index = tsdb.TSI1IndexName // series on disk, not in memory
	config.WALFsyncDelay = 0          // each write is fsynced before it returns
	config.StrictErrorHandling = true
	config.QueryLogEnabled = false
	config.MaxSeriesPerDatabase, config.MaxValuesPerTag = 0, 0 // the number of devices is bounded by the registry
	e.data.EngineOptions.Config = config
	e.data.EngineOptions.EngineVersion, e.data.EngineOptions.IndexVersion = config.Engine, config.Index
	e.data.WithLogger(logger)
	if err := mendIndexes(dataDir, walDir, log, logger); err != nil {
		return nil, err
	}
	if err := e.data.Open(); err != nil {
		return nil, fmt.Errorf("open data: %w", err)
	}
	e.flushLargeLogs(cmp.Or(c.LongLog, int64(config.CacheSnapshotMemorySize)))

	e.writer = coordinator.NewPointsWriter()
	e.writer.MetaClient, e.writer.TSDBStore = e.meta, e.data
	e.writer.WithLogger(logger)
	e.query = query.NewExecutor()
	e.query.WithLogger(logger)
	e.query.TaskManager.QueryTimeout = cmp.Or(c.QueryTime, defaultQueryTime)
	e.query.StatementExecutor = &coordinator.StatementExecutor{
		MetaClient:  e.meta,
		TaskManager: e.query.TaskManager,
		TSDBStore:   e.data,
		ShardMapper: &coordinator.LocalShardMapper{
			MetaClient: e.meta,
			TSDBStore:  coordinator.LocalTSDBStore{Store: e.data},
		},
		StrictErrorHandling: true,
		PointsWriter:        e.writer,
	}
	e.startSweep()
	return e, nil
}

// check tells of shards that are on the disk but could not be opened: the engine skips them, and refuses each write
// that belongs to their time.
func (e *engine) check() error {
	for _, policy := range e.meta.Database(embeddedDB).RetentionPolicies {
		for _, group := range policy.ShardGroups {
			for _, shard := range group.Shards {
				dir := filepath.Join(e.data.Path(), embeddedDB, policy.Name, strconv.FormatUint(shard.ID, 10))
				if _, err := os.Stat(dir); err != nil || group.Deleted() || e.data.Shard(shard.ID) != nil {
					continue
				}
				return &ConfigError{
					Message: fmt.Sprintf("the shard from %s to %s cannot be opened", group.StartTime, group.EndTime),
					Mend:    fmt.Sprintf("stop the hub and restore %s from a backup, or rebuild its index with influx_inspect buildtsi", dir),
				}
			}
		}
	}
	return nil
}

// close ends what the engine runs. The Store has seen to it that no request is in progress.
func (e *engine) close() error {
	e.stop()
	e.sweep.Wait()
	err := errors.Join(e.query.Close(), e.writer.Close(), e.data.Close(), e.meta.Close())
	if err != nil {
		return fmt.Errorf("store: close embedded: %w", err)
	}
	return nil
}
