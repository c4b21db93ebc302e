package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxdb/tsdb/index/tsi1"
)

// engineSync brings to the disk what the engine leaves to the kernel although its write-ahead log is useless without it
// after a power cut: the series keys (tsdb.SeriesSegment is flushed, not fsynced), the manifest of a new shard's index
// (tsi1.Manifest is written by WriteFile) and the folders' entries of new files. New series and shards are rare, so that
// a write normally costs two comparisons.
//
// Not covered: a manifest that the index rewrites by itself, when its log of 1 MB is full (mendIndexes makes up for it),
// and the folder's entry of a write-ahead log's next segment (ext4, xfs and btrfs bring it to the
// disk with the file's own fsync).
type engineSync struct {
	series, shards atomic.Int64 // how many were there when all was last on the disk; -1 never matches

	mu   sync.Mutex      // held while syncing: who finds the work begun waits for its end
	done map[uint64]bool // shards whose folders are on the disk
}

// forget makes the next write sync all: after a deletion, counts can match by chance.
func (s *engineSync) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.series.Store(-1)
	s.shards.Store(-1)
}

// syncNew is called after a write and before it is acknowledged.
func (e *engine) syncNew() error {
	series, shards := e.counts()
	if e.sync.series.Load() == series && e.sync.shards.Load() == shards {
		return nil
	}
	e.sync.mu.Lock()
	defer e.sync.mu.Unlock()
	// Counted again before syncing: what comes later is the later writer's to sync.
	series, shards = e.counts()
	if e.sync.series.Load() != series {
		if err := syncTree(filepath.Join(e.data.Path(), embeddedDB, tsdb.SeriesFileDirectory), all); err != nil {
			return err
		}
	}
	if e.sync.shards.Load() != shards {
		if err := e.syncShards(); err != nil {
			return err
		}
	}
	e.sync.series.Store(series)
	e.sync.shards.Store(shards)
	return nil
}

func (e *engine) counts() (series, shards int64) {
	for _, shard := range e.data.Shards(e.data.ShardIDs()) {
		if file, err := shard.SeriesFile(); err == nil {
			series = int64(file.SeriesCount()) // all shards of the database share it
			break
		}
	}
	return series, int64(e.data.ShardN())
}

// syncShards fsyncs the folders and manifests of shards that are new, and the folders above them. TSM and WAL files are
// the engine's. The caller holds sync.mu.
func (e *engine) syncShards() error {
	if e.sync.done == nil {
		e.sync.done = make(map[uint64]bool)
	}
	foldersAndManifests := func(d fs.DirEntry) bool { return d.IsDir() || d.Name() == tsi1.ManifestFileName }
	for _, id := range e.data.ShardIDs() {
		if e.sync.done[id] {
			continue
		}
		for _, kind := range []string{"data", "wal"} {
			if err := syncTree(e.shardFolder(kind, id), foldersAndManifests); err != nil {
				return err
			}
		}
		e.sync.done[id] = true
	}
	above := []string{
		filepath.Join("data", embeddedDB, embeddedPolicy), filepath.Join("data", embeddedDB), "data",
		filepath.Join("wal", embeddedDB, embeddedPolicy), filepath.Join("wal", embeddedDB), "wal", "meta", ".", "..",
	}
	for _, dir := range above {
		if err := syncPath(filepath.Join(e.dir, dir)); err != nil {
			return err
		}
	}
	return nil
}

// shardFolder is where a shard keeps its data or its wal.
func (e *engine) shardFolder(kind string, id uint64) string {
	return filepath.Join(e.dir, kind, embeddedDB, embeddedPolicy, strconv.FormatUint(id, 10))
}

func all(d fs.DirEntry) bool { return d.IsDir() || d.Type().IsRegular() }

// syncTree fsyncs what is chosen of a folder and all that is in it.
func syncTree(root string, chosen func(fs.DirEntry) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the engine removed it meanwhile
		}
		if err != nil {
			return err
		}
		if chosen(d) {
			return syncPath(path)
		}
		return nil
	})
}

// syncPath fsyncs a file or folder through a handle of its own, which covers what was written through others. Windows
// has no such order for folders, nor for handles opened for reading.
func syncPath(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
