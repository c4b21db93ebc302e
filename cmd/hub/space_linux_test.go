package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

// fillDisk takes all but left bytes of the disk.
func fillDisk(t *testing.T, dir string, left uint64) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
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
		} else if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return filler
}

// readyAnswer is the body of readyz.
type readyAnswer struct {
	Ready bool
	Parts []struct {
		Name    string
		OK      bool
		Message string
	}
}

// part returns what readyz says of a part, and its status.
func (h *hubProcess) part(name string) (message string, status int) {
	h.t.Helper()
	var r readyAnswer
	status = h.call(http.MethodGet, "/readyz", nil, &r)
	for _, p := range r.Parts {
		if p.Name == name {
			return p.Message, status
		}
	}
	h.t.Fatalf("readyz names no %s: %+v", name, r)
	return "", 0
}

// A disk that fills: acks stop while there is still the reserve, devices are told, what was acked is not lost, and all
// goes on by itself when there is room; also after somebody else took the last byte.
func TestAFullDiskStopsAcksAndNothingElse(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "192m")
	h := startHub(t, filepath.Join(disk, "data"), mustConfig(t, "ingest:\n  disk_reserve: 32MiB\n")...)
	ws := h.dial("watcher", h.newDevice("watcher"))
	if err := ws.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	wantNotice := func(code string) {
		t.Helper()
		if f := receive(t, ws); f.Method != "hub.notice" || f.Params.Code != code {
			t.Fatalf("the device got %+v, want the notice %s", f, code)
		}
	}
	got := h.simulate(func(<-chan struct{}) {
		received := h.received()
		for _, left := range []uint64{24 << 20, 0} {
			until(t, "readings to come in", func() bool { return h.received() > received+500 })
			filler := fillDisk(t, disk, left)
			wantNotice("journal_full")
			message, status := h.part("journal")
			if status != http.StatusServiceUnavailable || !strings.Contains(message, "kept in reserve") {
				t.Errorf("readyz with %d bytes left: %d, %q", left, status, message)
			}
			received = h.received() // what was under way when the disk filled
			for range 5 {
				h.call(http.MethodGet, "/healthz", nil, nil)
			}
			if now := h.received(); left == 0 && now != received {
				t.Errorf("%d readings were acked on a full disk", now-received)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			wantNotice("journal_ok")
			until(t, "readyz to be well", func() bool { _, status := h.part("journal"); return status == http.StatusOK })
		}
		until(t, "readings to come in again", func() bool { return h.received() > received+500 })
	}, "--devices", "20", "--rate", "20", "--duration", "20s", "--verify")
	if got.Lost != 0 || got.Duplicated != 0 || got.Acked != got.Sent || got.Stored != got.Sent {
		t.Errorf("%+v, want all sent readings acked and stored once", got)
	}
	h.newDevice("after") // the registry can be written
	if h.terminate() != nil {
		t.Error("the hub did not stop well")
	}
}
