package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"telemetryhub/torture/forgetfs"
)

// diskSync is what one sync takes: a fast disk's.
const diskSync = 2 * time.Millisecond

// forgottenWrites cuts the power: the hub is killed, and its disk forgets what was not synced. Journal, registry and the
// embedded store are all on it.
func forgottenWrites(ctx context.Context, s *scene) error {
	dir, err := s.folder("disk")
	if err != nil {
		return err
	}
	disk := forgetfs.NewDisk(diskSync)
	on, err := disk.Mount(dir)
	if err != nil {
		return fmt.Errorf("%w: FUSE cannot be mounted (as root, with /dev/fuse, it can): %w", errLeftOut, err)
	}
	s.closers = append(s.closers, func() error { return on.Unmount() })
	if err := s.startHub(ctx, filepath.Join(dir, "data"), ""); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 50, rate: 10})
	if err != nil {
		return err
	}
	cuts, forgotten, names := 0, int64(0), 0
	received := uint64(0)
	atLeast := scale(s.lab, 4, 60)
	for cuts < atLeast || forgotten == 0 && cuts < 3*atLeast { // until a cut has met what was not synced
		if received, err = s.hub.received(ctx, received); err != nil {
			return err
		}
		if err := pause(ctx, rand.N(3*time.Second)); err != nil {
			return err
		}
		disk.Cut()
		err := s.hub.crashBy(disk.Release)
		if err != nil {
			return err
		}
		if err := on.Unmount(); err != nil {
			return err
		}
		lost := disk.Forget()
		cuts, forgotten, names = cuts+1, forgotten+lost.Bytes, names+lost.Names
		again, err := disk.Mount(dir)
		if err != nil {
			return err
		}
		on = again
		if err := s.hub.start(ctx); err != nil {
			return fmt.Errorf("start after power cut %d: %w", cuts, err)
		}
		if err := m.alive(); err != nil {
			return err
		}
	}
	s.happened("cuts", cuts)
	s.happened("forgotten_bytes", int(forgotten))
	s.fact("forgotten_names", names)
	if _, err := s.hub.received(ctx, received); err != nil {
		return err
	}
	if err := m.finish(); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}

// crashBy kills the hub while it hangs on its disk, and lets it go then.
func (h *hub) crashBy(release func()) error {
	err := h.cmd.Process.Kill()
	release()
	if err != nil {
		return fmt.Errorf("kill the hub: %w", err)
	}
	return h.crash()
}
