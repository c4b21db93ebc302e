package forgetfs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"telemetryhub/torture/forgetfs"
)

// box is a disk with its mount.
type box struct {
	t    *testing.T
	disk *forgetfs.Disk
	dir  string
	on   *forgetfs.Mount
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, disk: forgetfs.NewDisk(0), dir: t.TempDir()}
	b.mount()
	t.Cleanup(func() {
		if err := b.on.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *box) mount() {
	b.t.Helper()
	on, err := b.disk.Mount(b.dir)
	if err != nil {
		if os.Getenv("CI") == "true" {
			b.t.Fatal(err)
		}
		b.t.Skipf("needs root and /dev/fuse: %v", err)
	}
	b.on = on
}

// powerCut forgets and mounts again.
func (b *box) powerCut() forgetfs.Forgotten {
	b.t.Helper()
	b.disk.Cut()
	b.disk.Release()
	if err := b.on.Unmount(); err != nil {
		b.t.Fatal(err)
	}
	lost := b.disk.Forget()
	b.mount()
	return lost
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func (b *box) open(name string, flags int) *os.File {
	b.t.Helper()
	f, err := os.OpenFile(b.path(name), flags, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) write(f *os.File, text string, off int64) {
	b.t.Helper()
	_, err := f.WriteAt([]byte(text), off)
	b.must(err)
}

func (b *box) sync(name string) {
	b.t.Helper()
	f, err := os.Open(b.path(name))
	b.must(err)
	b.must(f.Sync())
	b.must(f.Close())
}

func (b *box) want(name, text string) {
	b.t.Helper()
	got, err := os.ReadFile(b.path(name))
	if err != nil || string(got) != text {
		b.t.Errorf("%s holds %q, %v; want %q", name, got, err, text)
	}
}

func (b *box) wantGone(name string) {
	b.t.Helper()
	if _, err := os.Stat(b.path(name)); !os.IsNotExist(err) {
		b.t.Errorf("%s: %v, want that it does not exist", name, err)
	}
}

func TestOnlySyncedDataIsLeft(t *testing.T) {
	b := newBox(t)
	f := b.open("f", os.O_RDWR|os.O_CREATE)
	b.write(f, "kept", 0)
	b.must(f.Sync())
	b.write(f, " and forgotten", 4)
	b.write(f, "K", 0)
	b.want("f", "Kept and forgotten") // until the cut all is there
	b.must(f.Close())
	if lost := b.powerCut(); lost.Bytes != 15 {
		t.Errorf("forgotten: %+v, want 15 bytes", lost)
	}
	b.want("f", "kept")
}

func TestSizesAreForgottenToo(t *testing.T) {
	b := newBox(t)
	f := b.open("f", os.O_RDWR|os.O_CREATE)
	b.write(f, "0123456789", 0)
	b.must(f.Sync())
	b.must(f.Truncate(3))
	b.must(f.Close())
	b.powerCut()
	b.want("f", "0123456789")

	f = b.open("f", os.O_RDWR)
	b.must(f.Truncate(3))
	b.must(f.Sync())
	b.write(f, "x", 6) // the gap is zeros, not what was there
	b.must(f.Sync())
	b.must(f.Close())
	b.powerCut()
	b.want("f", "012\x00\x00\x00x")

	f = b.open("f", os.O_RDWR|os.O_TRUNC)
	b.must(f.Close())
	b.powerCut()
	b.want("f", "012\x00\x00\x00x")
}

func TestEachWriteThroughASyncHandleIsKept(t *testing.T) {
	b := newBox(t)
	f := b.open("f", os.O_RDWR|os.O_CREATE|os.O_SYNC)
	b.write(f, "kept", 0)
	b.must(f.Close())
	b.powerCut()
	b.want("f", "kept")
}

func TestNamesNeedTheirFolder(t *testing.T) {
	b := newBox(t)
	b.must(os.MkdirAll(b.path("a/b"), 0o755))
	b.must(os.WriteFile(b.path("unsynced"), []byte("x"), 0o644))
	b.must(os.WriteFile(b.path("a/b/synced"), []byte("kept"), 0o644))
	b.sync("a/b/synced") // and with it the folders above
	b.powerCut()
	b.wantGone("unsynced")
	b.want("a/b/synced", "kept")

	b.must(os.WriteFile(b.path("empty"), []byte("x"), 0o644))
	b.sync(".")
	b.powerCut()
	b.want("empty", "") // its name was synced, its data was not

	b.must(os.Remove(b.path("empty")))
	b.powerCut()
	b.want("empty", "")
	b.must(os.Remove(b.path("empty")))
	b.sync(".")
	b.powerCut()
	b.wantGone("empty")
}

func TestARenameIsForgotten(t *testing.T) {
	b := newBox(t)
	for name, text := range map[string]string{"old": "old", "new.tmp": "new"} {
		b.must(os.WriteFile(b.path(name), []byte(text), 0o644))
		b.sync(name)
	}
	b.must(os.Rename(b.path("new.tmp"), b.path("old")))
	b.want("old", "new")
	if lost := b.powerCut(); lost.Names != 2 {
		t.Errorf("forgotten: %+v, want the change of 2 names", lost)
	}
	b.want("old", "old")
	b.want("new.tmp", "new")

	b.must(os.Rename(b.path("new.tmp"), b.path("old")))
	b.sync(".")
	b.powerCut()
	b.want("old", "new")
	b.wantGone("new.tmp")
}

func TestNothingIsSyncedAfterTheCut(t *testing.T) {
	b := newBox(t)
	f := b.open("f", os.O_RDWR|os.O_CREATE)
	b.write(f, "before", 0)
	b.must(f.Sync())
	b.disk.Cut()
	synced := make(chan error, 1)
	go func() {
		_, _ = f.WriteAt([]byte("after!"), 0)
		synced <- f.Sync()
	}()
	b.disk.Release()
	if err := <-synced; err == nil {
		t.Error("a sync after the cut succeeded")
	}
	_ = f.Close()
	b.must(b.on.Unmount())
	b.disk.Forget()
	b.mount()
	b.want("f", "before")
}

func TestLargeFilesAreWhole(t *testing.T) {
	b := newBox(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB: many writes of the kernel's
	b.must(os.WriteFile(b.path("f"), want, 0o644))
	b.sync("f")
	b.powerCut()
	got, err := os.ReadFile(b.path("f"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want %d as they were written", len(got), err, len(want))
	}
}
