package commands

import (
	"context"
	"fmt"
)

// Batch writes many records of the ledger's bucket in one commit, each if its key is still at that revision (0: new), and
// returns the revision of the last; the others have those before it. After an error it is not known what was written.
type Batch interface {
	PutAll(ctx context.Context, keys []string, values [][]byte, revisions []uint64) (last uint64, err error)
}

// Bounds of what is written in one commit.
const (
	batchRecords = 200
	batchBytes   = 1 << 20
)

// job is the write of one entry.
type job struct {
	e       *entry
	cmd     Command
	rev     uint64
	version int
}

// take returns what is written next: with a Batch all that waits, up to its bounds, else one. Called with mu.
func (s *Service) take() []job {
	var jobs []job
	size := 0
	for len(s.queue) > 0 {
		e := s.queue[0]
		size += 600 + len(e.next.Params) + len(e.next.Result) + len(e.next.Error) + 100*len(e.next.History)
		if len(jobs) > 0 && (s.cfg.Batch == nil || len(jobs) == batchRecords || size > batchBytes) {
			break
		}
		s.queue[0] = nil
		s.queue = s.queue[1:]
		jobs = append(jobs, job{e, e.next, e.rev, e.version})
	}
	return jobs
}

// writeTogether puts several commands into the bucket in one commit, and returns their revisions. An error leaves
// open what was written: the caller then writes them one by one, which finds out.
func (s *Service) writeTogether(jobs []job) ([]uint64, error) {
	keys, values, revisions := make([]string, len(jobs)), make([][]byte, len(jobs)), make([]uint64, len(jobs))
	for i, j := range jobs {
		record, err := encodeRecord(j.cmd)
		if err != nil {
			return nil, fmt.Errorf("command %s: encode: %w", j.cmd.ID, err)
		}
		keys[i], values[i], revisions[i] = j.cmd.ID, record, j.rev
	}
	ctx, cancel := context.WithTimeout(s.ctx, bucketTimeout)
	defer cancel()
	last, err := s.cfg.Batch.PutAll(ctx, keys, values, revisions)
	if err != nil {
		return nil, fmt.Errorf("write %d commands: %w", len(jobs), err)
	}
	for i := range revisions {
		revisions[i] = last - uint64(len(jobs)-1-i)
	}
	return revisions, nil
}
