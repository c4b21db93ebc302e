package forgetfs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is an object as the kernel sees it.
type node struct {
	fs.Inode
	disk *Disk
	of   *object
}

// handle is an open file; through some each write is a sync.
type handle struct{ eachWrite bool }

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// change runs f unless the power is cut.
func (n *node) change(f func() syscall.Errno) syscall.Errno {
	errno := syscall.EIO
	n.disk.change(func() { errno = f() })
	return errno
}

func (o *object) describe(a *fuse.Attr) {
	a.Ino, a.Nlink, a.Blksize = o.number, 1, 4096
	a.Mode = syscall.S_IFREG | o.mode
	if o.folder {
		a.Mode = syscall.S_IFDIR | o.mode
	}
	a.Size = uint64(len(o.data))
	a.Blocks = (a.Size + 511) / 512
	changed := o.changed
	a.SetTimes(&changed, &changed, &changed)
}

// present is the kernel's view of an object; with the disk's lock held.
func (n *node) present(ctx context.Context, o *object, out *fuse.EntryOut) *fs.Inode {
	o.describe(&out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, of: o}, fs.StableAttr{Mode: out.Mode & syscall.S_IFMT, Ino: o.number})
}

// Lookup implements fs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	o := n.of.names[name]
	if o == nil {
		return nil, syscall.ENOENT
	}
	return n.present(ctx, o, out), 0
}

// Getattr implements fs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.of.describe(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer: sizes, modes and times.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.change(func() syscall.Errno {
		if size, ok := in.GetSize(); ok {
			n.of.truncate(int64(size))
		}
		if mode, ok := in.GetMode(); ok {
			n.of.mode = mode & 0o7777
		}
		if changed, ok := in.GetMTime(); ok {
			n.of.changed = changed
		}
		n.of.describe(&out.Attr)
		return 0
	})
}

func opened(flags uint32) *handle {
	return &handle{eachWrite: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
}

// Open implements fs.NodeOpener.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC == 0 {
		return opened(flags), 0, 0
	}
	errno := n.change(func() syscall.Errno {
		n.of.truncate(0)
		return 0
	})
	return opened(flags), 0, errno
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (inode *fs.Inode, h fs.FileHandle, _ uint32, errno syscall.Errno) {
	inode, errno = n.add(ctx, name, false, mode, out)
	return inode, opened(flags), 0, errno
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, true, mode, out)
}

func (n *node) add(ctx context.Context, name string, folder bool, mode uint32, out *fuse.EntryOut) (inode *fs.Inode, errno syscall.Errno) {
	errno = n.change(func() syscall.Errno {
		if n.of.names[name] != nil {
			return syscall.EEXIST
		}
		o := n.disk.newObject(folder, mode)
		o.put(n.of, name)
		inode = n.present(ctx, o, out)
		return 0
	})
	return inode, errno
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno { return n.drop(name) }

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno { return n.drop(name) }

func (n *node) drop(name string) syscall.Errno {
	return n.change(func() syscall.Errno {
		o := n.of.names[name]
		switch {
		case o == nil:
			return syscall.ENOENT
		case len(o.names) > 0:
			return syscall.ENOTEMPTY
		}
		o.remove()
		return 0
	})
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	return n.change(func() syscall.Errno {
		o := n.of.names[name]
		if o == nil {
			return syscall.ENOENT
		}
		if old := to.of.names[newName]; old != nil && len(old.names) > 0 {
			return syscall.ENOTEMPTY
		}
		o.put(to.of, newName)
		return 0
	})
}

// Readdir implements fs.NodeReaddirer.
func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	list := make([]fuse.DirEntry, 0, len(n.of.names))
	for name, o := range n.of.names {
		entry := fuse.DirEntry{Name: name, Ino: o.number, Mode: syscall.S_IFREG}
		if o.folder {
			entry.Mode = syscall.S_IFDIR
		}
		list = append(list, entry)
	}
	return fs.NewListDirStream(list), 0
}

// Read implements fs.NodeReader.
func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if off >= int64(len(n.of.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.of.data[off:])]), 0
}

// Write implements fs.NodeWriter.
func (n *node) Write(_ context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	errno := n.change(func() syscall.Errno {
		n.of.write(data, off)
		return 0
	})
	if h, is := f.(*handle); is && h.eachWrite && errno == 0 {
		errno = n.sync()
	}
	return uint32(len(data)), errno
}

// Fsync implements fs.NodeFsyncer, of files and folders.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return n.sync() }

func (n *node) sync() syscall.Errno {
	time.Sleep(n.disk.syncTime) // the disk works; a power cut meanwhile forgets
	return n.change(func() syscall.Errno {
		n.of.sync()
		return 0
	})
}

// Statfs implements fs.NodeStatfser: there is always room.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const blocks = 1 << 22 // 16 GB
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail, out.Files, out.Ffree = blocks, blocks, blocks, blocks, blocks
	return 0
}

// remembered is how long the kernel may keep names and attributes: it makes all changes itself.
const remembered = time.Minute
