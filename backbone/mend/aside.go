package mend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// asideMost bounds the copies of damaged blocks, in bytes; the oldest go.
const asideMost = 256 << 20

// keepAside copies a block to where damaged ones are kept, and returns the copy's path once it is on disk.
func keepAside(dir, stream, path string) (kept string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("keep a copy of the damaged %s before it is mended: %w", path, err)
	}
	from, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	if err := makeRoom(dir, asideMost-info.Size()); err != nil {
		return fail(err)
	}
	kept = filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000000")+"-"+stream+"-"+filepath.Base(path))
	to, err := os.OpenFile(kept, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fail(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Sync(), to.Close()); err != nil {
		return fail(errors.Join(err, os.Remove(kept)))
	}
	if err := syncFolder(dir); err != nil {
		return fail(err)
	}
	return kept, nil
}

// noteSuffix is what the note about the records lost in a copy has behind the copy's name.
const noteSuffix = ".lost"

// Note says which records of a block are lost. It stays beside the block's copy until somebody has made up for them.
type Note struct {
	Stream string `json:"stream"`
	Lost   []Lost `json:"lost"` // in the block's order

	path string
}

// Lost is the place of what was left of one or more records, within the copy.
type Lost struct {
	Sequence uint64 `json:"sequence"` // 0: not known
	At       int64  `json:"at"`
	Length   int64  `json:"length"`
}

// note writes down what of a block is lost, before it is, if anything is.
func (b *block) note(kept, stream string) error {
	n := Note{Stream: stream}
	for _, c := range b.changes {
		if !c.restored {
			n.Lost = append(n.Lost, Lost{Sequence: c.sequence, At: int64(c.at), Length: int64(c.length)})
		}
	}
	if len(n.Lost) == 0 {
		return nil
	}
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("note what is lost: %w", err)
	}
	f, err := os.OpenFile(kept+noteSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("note what is lost: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("note what is lost: %w", err)
	}
	return syncFolder(filepath.Dir(kept))
}

// Notes returns the notes about a stream that are in the folder aside, the oldest first. One that was not written whole
// is none: its block had not been changed yet.
func Notes(aside, stream string) ([]Note, error) {
	paths, err := filepath.Glob(filepath.Join(aside, "*-"+stream+"-*"+noteSuffix))
	if err != nil {
		return nil, fmt.Errorf("find the notes about lost records: %w", err)
	}
	var notes []Note
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read a note about lost records: %w", err)
		}
		n := Note{path: path}
		if json.Unmarshal(data, &n) == nil && n.Stream == stream {
			notes = append(notes, n)
		}
	}
	return notes, nil
}

// Read returns the bytes of what was left of the records, damaged as they are. It returns none where the copy is gone: the
// oldest go when there are too many.
func (n Note) Read() (pieces [][]byte, err error) {
	f, err := os.Open(strings.TrimSuffix(n.path, noteSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the copy of a damaged block: %w", err)
	}
	defer f.Close()
	for _, l := range n.Lost {
		if l.Length < 0 || l.Length > recordMost {
			return nil, fmt.Errorf("the note %s speaks of a record of %d bytes", n.path, l.Length)
		}
		piece := make([]byte, l.Length)
		if _, err := f.ReadAt(piece, l.At); err != nil {
			return nil, fmt.Errorf("read the copy of a damaged block: %w", err)
		}
		pieces = append(pieces, piece)
	}
	return pieces, nil
}

// Remove removes the note: the loss has been made up for. The copy stays.
func (n Note) Remove() error {
	if err := os.Remove(n.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a note about lost records: %w", err)
	}
	return nil
}

// makeRoom removes the oldest copies until the others have at most so many bytes. Their names begin with their time.
func makeRoom(dir string, most int64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the copies of damaged blocks: %w", err)
	}
	var infos []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("list the copies of damaged blocks: %w", err)
		}
		infos = append(infos, info)
		total += info.Size()
	}
	for _, info := range infos {
		if total <= most {
			return nil
		}
		if err := os.Remove(filepath.Join(dir, info.Name())); err != nil {
			return fmt.Errorf("remove an old copy of a damaged block: %w", err)
		}
		total -= info.Size()
	}
	return nil
}

// syncFolder makes names in a folder last.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync a folder: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}
