package forgetfs

import (
	"errors"
	"fmt"
	"io"
	"log"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount is a mounted disk.
type Mount struct {
	server *fuse.Server
	dir    string
}

// Mount mounts the disk at the folder dir. It needs root, and /dev/fuse.
func (d *Disk) Mount(dir string) (*Mount, error) {
	keep := remembered
	server, err := fs.Mount(dir, &node{disk: d, of: d.root}, &fs.Options{
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, FsName: "forgetfs", Name: "forgetfs", MaxWrite: 1 << 20,
			Logger: log.New(io.Discard, "", 0),
		},
		AttrTimeout: &keep, EntryTimeout: &keep,
	})
	if err != nil {
		return nil, fmt.Errorf("mount forgetfs at %s: %w", dir, err)
	}
	return &Mount{server: server, dir: dir}, nil
}

// Unmount ends the mount. What still uses it after some tries is cut off.
func (m *Mount) Unmount() error {
	err := m.server.Unmount() // tries again while the kernel lets go of a killed process's files
	if err != nil {
		err = errors.Join(fmt.Errorf("unmount %s: %w", m.dir, err), syscall.Unmount(m.dir, syscall.MNT_DETACH))
	}
	return err
}
