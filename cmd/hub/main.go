package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"telemetryhub/bridge/presets"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(exitStatus(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr), os.Stderr))
}

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a wrong command line.
type usageError struct{ error }

// exitStatus says what went wrong and returns the status that tells scripts.
func exitStatus(err error, stderr io.Writer) int {
	var config *ConfigError
	var usage usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return exitOK
	case errors.As(err, &config):
		fmt.Fprintln(stderr, config)
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "hub:", usage)
		return exitUsage
	}
	fmt.Fprintln(stderr, "hub:", err)
	return exitFailed
}

// stopBudget is how long an orderly stop may take.
const stopBudget = 20 * time.Second

// run is the whole program: it serves until ctx ends or a part fails.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	f, err := parseFlags(args, stderr)
	if errors.Is(err, errHelp) {
		return err
	}
	if err != nil {
		return usageError{err}
	}
	if f.Version {
		fmt.Fprintln(stdout, "hub", version())
		return nil
	}
	if f.Preset != "" {
		text, err := presets.Text(f.Preset, nil)
		if err != nil {
			return usageError{err}
		}
		_, err = stdout.Write(text)
		return err
	}
	cfg, err := f.load(getenv)
	if err != nil {
		return err
	}
	if f.CheckConfig {
		fmt.Fprintln(stdout, "OK")
		return nil
	}
	log := newLog(cfg.Log, stderr)
	h, err := openHub(ctx, cfg, log)
	if err != nil {
		return err
	}
	if f.NewAdmin {
		if err := h.recoverAdmin(ctx); err != nil {
			return errors.Join(err, h.stop.run(stopBudget, log))
		}
	}
	h.announce(stdout)
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err = <-h.failed:
	case err = <-h.bus.Failed():
	}
	if err != nil {
		log.Error("stopping because a part has failed", "err", err)
	}
	return errors.Join(err, h.stop.run(stopBudget, log))
}

func newLog(cfg LogConfig, stderr io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // validated with the configuration
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(stderr, opts))
	}
	return slog.New(slog.NewTextHandler(stderr, opts))
}
