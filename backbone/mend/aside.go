package mend

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
