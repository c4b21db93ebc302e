package backbone_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"telemetryhub/backbone"
)

// smallDisk mounts a tmpfs of that size for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("a tmpfs cannot be mounted: %v; run the tests as root, or in a user namespace of their own", err)
		}
		t.Skipf("a tmpfs cannot be mounted: %v; run the tests as root", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill takes all but left bytes of the disk and returns what gives them back.
func fill(t *testing.T, dir string, left uint64) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := uint64(1 << 20); size > 0; {
		d, err := backbone.DiskOf(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d.Free < left+size {
			size /= 2
			continue
		}
		if _, err := f.Write(make([]byte, size)); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		} else if err != nil {
			size /= 2
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// noAnswer is how long a server that answers nothing is waited for. A busy machine's answers in time.
const noAnswer = 5 * time.Second

// publish publishes one envelope of 100 kB.
func publish(b *backbone.Backbone) error {
	ctx, cancel := context.WithTimeout(context.Background(), noAnswer)
	defer cancel()
	_, err := b.JetStream().Publish(ctx, backbone.JournalSubject, make([]byte, 100_000))
	return err
}

func wantJournal(t *testing.T, b *backbone.Backbone, atLeast int) {
	t.Helper()
	u, err := b.Usage(t.Context())
	if err != nil || u.Journal < uint64(atLeast)*100_000 {
		t.Errorf("the journal has %d bytes (%v) after %d envelopes of 100 kB were acknowledged", u.Journal, err, atLeast)
	}
}

func TestEnvelopesLeaveTheReserveFree(t *testing.T) {
	dir := smallDisk(t, "32m")
	const reserve = 8 << 20
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: filepath.Join(dir, "js"), Reserve: reserve}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	kv, err := b.Bucket(t.Context(), backbone.Commands)
	if err != nil {
		t.Fatal(err)
	}
	acked := 0
	for ; err == nil && acked < 1000; acked++ {
		err = publish(b)
	}
	acked--
	var none *backbone.NoRoomError
	if !errors.As(err, &none) || !backbone.IsFull(err) || none.Reserve != reserve {
		t.Fatalf("after %d envelopes: %v, want no room", acked, err)
	}
	if d, err := backbone.DiskOf(dir); err != nil || d.Free < reserve/2 {
		t.Fatalf("%d bytes are free (%v), want the reserve", d.Free, err)
	}
	if _, err := kv.Put(t.Context(), "k", []byte("a command")); err != nil {
		t.Errorf("the reserve is not for commands: %v", err)
	}
	// A little room is not enough, lest it stops again at once.
	journal, err := b.JetStream().Stream(t.Context(), backbone.Journal)
	if err != nil {
		t.Fatal(err)
	}
	wantJournal(t, b, acked)
	free := fill(t, dir, reserve+reserve/16)
	if err := publish(b); !backbone.IsFull(err) {
		t.Errorf("published with next to no room: %v", err)
	}
	free()
	if err := journal.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // purged files go later
	defer cancel()
	for err = publish(b); err != nil && deadline.Err() == nil; err = publish(b) {
	}
	if err != nil {
		t.Errorf("there is room again: %v", err)
	}
	if u, err := b.Usage(t.Context()); err != nil || u.Reserve != reserve || u.Limit != backbone.DefaultJournalMaxBytes {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// Somebody else takes the last byte. nats-server answers nothing any more then, also when there is room again
// (2.15.2), until it is started again.
func TestItMendsItselfAfterTheDiskWasFull(t *testing.T) {
	dir := smallDisk(t, "32m")
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: filepath.Join(dir, "js"), Reserve: 1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	kv, err := b.Bucket(t.Context(), backbone.Presence)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	acked := 0
	for ; acked < 10; acked++ {
		if err := publish(b); err != nil {
			t.Fatal(err)
		}
	}
	free := fill(t, dir, 50_000) // less than an envelope
	for err = nil; err == nil; {
		if err = publish(b); err == nil {
			acked++
		}
	}
	if backbone.IsFull(err) {
		t.Fatalf("%v: the test does not test", err)
	}
	short, cancel := context.WithTimeout(t.Context(), noAnswer)
	defer cancel()
	if _, err := kv.Put(short, "k", make([]byte, 100_000)); err == nil {
		t.Fatal("a full disk took something: the test does not test")
	}
	free()
	deadline, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for publish(b) != nil {
		if deadline.Err() != nil {
			t.Fatal("nothing can be published although there is room")
		}
	}
	acked++
	wantJournal(t, b, acked)
	for {
		short, cancel := context.WithTimeout(t.Context(), noAnswer)
		_, err := kv.Put(short, "again", []byte("v"))
		cancel()
		if err == nil {
			break
		}
		if deadline.Err() != nil {
			t.Fatalf("a bucket after the server was started again: %v", err)
		}
	}
	for {
		select {
		case e := <-watch.Updates():
			if e != nil && e.Key() == "again" {
				return
			}
		case <-deadline.Done():
			t.Fatal("a watch ended when the server was started again")
		}
	}
}
