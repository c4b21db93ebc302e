package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// diskFull fills the small disk that the data folder is on. Acks stop, nothing acked is forgotten, and once there is
// room again all goes on by itself.
func diskFull(ctx context.Context, s *scene) error {
	disk, err := s.folder("disk")
	if err != nil {
		return err
	}
	if err := mountTmpfs(disk, "256m"); err != nil {
		return fmt.Errorf("%w: a tmpfs cannot be mounted (as root it can): %w", errLeftOut, err)
	}
	s.closers = append(s.closers, func() error { return unmount(disk) })
	if err := s.startHub(ctx, filepath.Join(disk, "data"), ""); err != nil {
		return err
	}
	m, err := s.simulate(load{devices: 50, rate: 20})
	if err != nil {
		return err
	}
	filler := filepath.Join(disk, "filler")
	received := uint64(0)
	stopped := 0
	for range scale(s.lab, 1, 5) {
		if _, err := s.hub.received(ctx, received+500); err != nil {
			return err
		}
		if err := fill(ctx, filler); err != nil {
			return err
		}
		if received, err = s.hub.standsStill(ctx, filler); err != nil {
			return err
		}
		stopped++
		if err := pause(ctx, scale(s.lab, 3*time.Second, 30*time.Second)); err != nil {
			return err
		}
		if err := os.Remove(filler); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		room := time.Now()
		if received, err = s.hub.received(ctx, received+500); err != nil {
			return fmt.Errorf("after there was room again: %w", err)
		}
		s.fact("recovered_s", int(time.Since(room).Seconds()))
	}
	s.happened("stood_still", stopped)
	if err := m.finish(); err != nil {
		return err
	}
	return s.conclude(ctx, m)
}

// fill writes until the disk is full, or was before.
func fill(ctx context.Context, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; ctx.Err() == nil; {
		_, err := f.Write(make([]byte, size))
		switch {
		case err == nil:
		case !errors.Is(err, syscall.ENOSPC):
			return fmt.Errorf("fill the disk: %w", err)
		case size == 1:
			return nil
		default:
			size = max(1, size/16)
		}
	}
	return ctx.Err()
}

// standsStill waits until the hub makes nothing durable any more, filling what room it makes meanwhile.
func (h *hub) standsStill(ctx context.Context, filler string) (received uint64, err error) {
	const still = 2 * time.Second
	since := time.Now()
	err = until(ctx, "acks to stop on a full disk", time.Minute, func() (bool, error) {
		if err := fill(ctx, filler); err != nil {
			return false, err
		}
		a, err := h.audit(ctx)
		if a.Total.Received != received {
			received, since = a.Total.Received, time.Now()
		}
		return time.Since(since) > still, err
	})
	return received, err
}
