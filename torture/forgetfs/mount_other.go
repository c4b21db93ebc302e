//go:build !linux

package forgetfs

import "errors"

// Mount is a mounted disk.
type Mount struct{}

// Mount fails where there is no FUSE of Linux.
func (d *Disk) Mount(string) (*Mount, error) {
	return nil, errors.New("forgetfs is for Linux only")
}

// Unmount has nothing to do.
func (*Mount) Unmount() error { return nil }
