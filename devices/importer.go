package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"telemetryhub/auth"
)

// Batch writes many records of the registry's bucket in one commit, each if its key is at that revision (0: it is not
// there), and returns the revision of the last; the others have those before it.
type Batch interface {
	PutAll(ctx context.Context, keys []string, values [][]byte, revisions []uint64) (last uint64, err error)
}

// LargestImport is how many devices one import takes.
const LargestImport = 10_000

// importTimeout bounds the writing of one import, once it has begun.
const importTimeout = 2 * time.Minute

// Existing says what an import does with a device that exists.
type Existing string

// What an import does with a device that exists.
const (
	RefuseExisting Existing = "error"  // nothing is imported
	SkipExisting   Existing = "skip"   // it stays as it is
	UpdateExisting Existing = "update" // it becomes what its entry says, and keeps its token
)

// ImportFault is what is wrong with one entry: an *InvalidError, or ErrExists.
type ImportFault struct {
	Index int // of the entry
	Err   error
}

// ImportError says that nothing was imported, and all that is wrong.
type ImportError struct{ Faults []ImportFault }

// Error tells the first fault and how many there are.
func (e *ImportError) Error() string {
	return fmt.Sprintf("entry %d: %v (%d faults)", e.Faults[0].Index, e.Faults[0].Err, len(e.Faults))
}

// Outcome is what an import did with one entry.
type Outcome string

// What an import did with one entry.
const (
	Created Outcome = "created"
	Updated Outcome = "updated"
	Skipped Outcome = "skipped"
	Overrun Outcome = "overrun" // another hub changed the device meanwhile; it stays as that hub has it
)

// Imported is one entry's outcome. Token is of a device that was created, and never shown again.
type Imported struct {
	Device  Device
	Outcome Outcome
	Token   string
}

// Importer makes many devices at once: all of an import or, also after a crash at any time, nothing. Every import is
// in the bucket as a plan before its first device is; see import_plan.go.
type Importer struct {
	registry *Registry
	batch    Batch
	log      *slog.Logger
}

// OpenImporter finishes what a crash interrupted. No device may be let in before it has returned.
func OpenImporter(ctx context.Context, registry *Registry, batch Batch, log *slog.Logger) (*Importer, error) {
	m := &Importer{registry: registry, batch: batch, log: log}
	registry.changing.Lock()
	defer registry.changing.Unlock()
	return m, m.resume(ctx)
}

// Import makes and changes devices as the entries say, all of them or none, and returns the outcome of each in their
// order. Other changes of the registry wait meanwhile. With check it only says what it would do, without tokens.
// Errors: *ImportError; any other says in its text whether the import was undone or will be finished.
func (m *Importer) Import(ctx context.Context, entries []Entry, existing Existing, check bool) ([]Imported, error) {
	if len(entries) > LargestImport {
		return nil, fmt.Errorf("an import of %d devices; at most %d", len(entries), LargestImport)
	}
	r := m.registry
	r.changing.Lock()
	defer r.changing.Unlock()
	found, err := m.prepare(entries, existing)
	if err != nil || check {
		return found, err
	}
	// Not given up in the middle because its caller went away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), importTimeout)
	defer cancel()
	if err := m.resume(ctx); err != nil { // what an error left
		return nil, err
	}
	var plan []planned
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i := range found {
		one := &found[i]
		if one.Outcome == Skipped {
			continue
		}
		if one.Outcome == Created {
			var hash auth.Hash
			if one.Token, hash, err = auth.NewToken(auth.DevicePrefix); err != nil {
				return nil, err
			}
			one.Device.Created, one.Device.Tokens = now, []Token{newToken(hash, now, r.tokens.expiry(now))}
		}
		revision, err := r.revisionOf(ctx, one.Device.ID)
		if err != nil {
			return nil, err
		}
		plan = append(plan, planned{Device: one.Device, Revision: revision})
	}
	if len(plan) == 0 {
		return found, nil
	}
	written, err := m.carryOut(ctx, plan)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if one := &found[i]; one.Outcome != Skipped && !written[one.Device.ID] {
			one.Outcome, one.Token = Overrun, ""
		}
	}
	return found, nil
}

// prepare says what becomes of each entry, or all that is wrong with them.
func (m *Importer) prepare(entries []Entry, existing Existing) ([]Imported, error) {
	all, seen := make([]Imported, len(entries)), make(map[string]bool, len(entries))
	var faults []ImportFault
	for i, e := range entries {
		outcome := Created
		d, exists := m.registry.Get(e.ID)
		switch {
		case seen[e.ID]:
			faults = append(faults, ImportFault{i, &InvalidError{Field: "id", Message: fmt.Sprintf("%q stands there twice", clipID(e.ID))}})
			continue
		case exists && existing == SkipExisting:
			outcome = Skipped
		case exists && existing == UpdateExisting:
			outcome = Updated
		case exists:
			faults = append(faults, ImportFault{i, ErrExists})
		default:
			d = Device{ID: e.ID, Enabled: true}
		}
		seen[e.ID] = true
		changed := d
		e.set(&changed)
		var invalid *InvalidError
		if err := changed.validate(); errors.As(err, &invalid) {
			faults = append(faults, ImportFault{i, invalid})
		}
		if outcome != Skipped {
			d = changed
		}
		all[i] = Imported{Device: d, Outcome: outcome}
	}
	if faults != nil {
		return nil, &ImportError{Faults: faults}
	}
	return all, nil
}

// clipID shortens what is no id.
func clipID(id string) string { return strings.ToValidUTF8(id[:min(len(id), 64)], "") }

// revisionOf returns the bucket's revision of a device, also of one that was deleted; 0 if there never was one.
func (r *Registry) revisionOf(ctx context.Context, id string) (uint64, error) {
	r.mu.RLock()
	_, unsure := r.deleted[id] // the watch has yet to bring the deletion's own revision
	r.mu.RUnlock()
	if unsure {
		if err := r.reload(ctx, id); err != nil {
			return 0, err
		}
	}
	return r.lastRevision(id), nil
}

func (r *Registry) lastRevision(id string) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return max(r.byID[id].revision, r.graves[id])
}
