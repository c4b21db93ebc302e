package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"telemetryhub/store/influxtest"
)

// startInfluxDB runs an InfluxDB in a folder of its own and writes a configuration that stores in it. Where there is none and
// none can be built, the error is a *leftOut.
func startInfluxDB(ctx context.Context, dir string) (db *influxtest.Server, config string, err error) {
	data := filepath.Join(dir, "influxdb")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, "", fmt.Errorf("folder of InfluxDB: %w", err)
	}
	db, err = influxtest.Start(ctx, data)
	if errors.Is(err, influxtest.ErrMissing) {
		return nil, "", &leftOut{err}
	}
	if err != nil {
		return nil, "", err
	}
	config = filepath.Join(dir, "hub.yaml")
	text := fmt.Sprintf("store:\n  kind: influxdb\n  influxdb:\n    url: %s\n    bucket: telemetry\n", db.URL())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", errors.Join(fmt.Errorf("configuration: %w", err), db.Kill())
	}
	return db, config, nil
}

// leftOut is a part that cannot be measured on this machine, which is no failure.
type leftOut struct{ err error }

func (e *leftOut) Error() string { return e.err.Error() }
func (e *leftOut) Unwrap() error { return e.err }
