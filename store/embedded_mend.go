package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/influxdata/influxdb/cmd/influx_inspect/buildtsi"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/index/tsi1"
	"go.uber.org/zap"
)

// indexFolder is where a shard keeps its index; the engine builds it elsewhere and renames it there when it is whole.
const indexFolder = "index"

// mendIndexes builds the index of each shard anew that has none that can be read, from the points themselves. The
// engine truncates an index's manifest before it writes it (tsi1.Manifest.Write), so a crash in between leaves an
// empty one, with which the shard can never be opened again. It is called before the engine opens its shards. A shard
// that cannot be mended is left as it is; check tells of it.
func mendIndexes(dataDir, walDir string, log *slog.Logger, engineLog *zap.Logger) error {
	shards, err := filepath.Glob(filepath.Join(dataDir, embeddedDB, embeddedPolicy, "*"))
	if err != nil {
		return fmt.Errorf("list shards: %w", err)
	}
	for _, shard := range shards {
		fault := indexFault(shard)
		if fault == nil {
			continue
		}
		log.Warn("the index of a shard cannot be read, as after a crash; it is built anew from its points", "shard", shard, "err", fault)
		wal := filepath.Join(walDir, embeddedDB, embeddedPolicy, filepath.Base(shard))
		if err := rebuildIndex(shard, wal, filepath.Join(dataDir, embeddedDB, tsdb.SeriesFileDirectory), engineLog); err != nil {
			log.Error("the index of a shard could not be built anew", "shard", shard, "err", err)
		}
	}
	return nil
}

// indexFault says which manifest in a shard's folder is not whole. A shard without any index is the engine's to mend; a
// crash within rebuildIndex leaves one.
func indexFault(shard string) error {
	manifests, err := filepath.Glob(filepath.Join(shard, indexFolder, "*", tsi1.ManifestFileName))
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	for _, manifest := range manifests {
		if _, _, err := tsi1.ReadManifestFile(manifest); err != nil {
			return fmt.Errorf("read %s: %w", manifest, err)
		}
	}
	return nil
}

// indexBatch is how many series are put into a new index at once.
const indexBatch = 10_000

// rebuildIndex replaces a shard's index by one that is made of its TSM files and its write-ahead log.
func rebuildIndex(shard, wal, series string, log *zap.Logger) (err error) {
	if err := os.RemoveAll(filepath.Join(shard, indexFolder)); err != nil {
		return err
	}
	file := tsdb.NewSeriesFile(series)
	file.Logger = log
	if err := file.Open(); err != nil {
		return fmt.Errorf("open the series file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	const anyCacheSize = 0 // the log is read whole, as the engine does
	if err := buildtsi.IndexShard(file, shard, wal, tsdb.DefaultMaxIndexLogFileSize, anyCacheSize, indexBatch, log, false); err != nil {
		return err
	}
	return errors.Join(syncTree(filepath.Join(shard, indexFolder), all), syncPath(shard), syncTree(series, all))
}

// flushLargeLogs writes the points that only a shard's write-ahead log has into a TSM file, where the log is over size
// bytes. The engine does so a while after it was opened; a hub that ends again before that would have a longer log to
// replay, and more memory to replay it in, each time.
func (e *engine) flushLargeLogs(size int64) {
	for _, id := range e.data.ShardIDs() {
		shard := e.data.Shard(id)
		if shard == nil || e.logSize(id) <= size {
			continue
		}
		opened, err := shard.Engine()
		if err != nil {
			continue // check tells of it
		}
		snapshot, ok := opened.(interface{ WriteSnapshot() error })
		if !ok {
			continue
		}
		if err := snapshot.WriteSnapshot(); err != nil {
			e.log.Warn("the write-ahead log of a shard stays long", "shard", id, "err", err)
		}
	}
}

// logSize is the size in bytes of a shard's write-ahead log.
func (e *engine) logSize(id uint64) (size int64) {
	files, _ := filepath.Glob(filepath.Join(e.shardFolder("wal", id), "*.wal")) // the pattern is well formed
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			size += info.Size()
		}
	}
	return size
}
