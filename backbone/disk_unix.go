//go:build linux || darwin || freebsd

package backbone

import (
	"errors"
	"fmt"
	"syscall"
)

// DiskOf returns how full the file system of a folder is.
func DiskOf(dir string) (Disk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return Disk{}, fmt.Errorf("ask how full the disk of %s is: %w", dir, err)
	}
	if s.Blocks == 0 { // some network and FUSE file systems do not say
		return Disk{}, fmt.Errorf("ask how full the disk of %s is: %w", dir, errors.ErrUnsupported)
	}
	block := uint64(s.Bsize)
	return Disk{Free: uint64(s.Bavail) * block, Used: (s.Blocks - s.Bfree) * block}, nil //nolint:unconvert // not uint64 everywhere
}
