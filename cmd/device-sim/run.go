package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"telemetryhub/api/client"
	"telemetryhub/cmd/device-sim/readings"
)

// errJudged is a run whose readings are not all stored exactly once.
var errJudged = errors.New("verify: acknowledged readings are not stored exactly once")

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(args, stdout, stderr)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	f, err := newFleet(o, log)
	if err != nil {
		return err
	}
	result, err := f.perform(ctx, stderr)
	if f.api != nil {
		f.api.Close()
	}
	if result == nil {
		return err
	}
	if o.JSON {
		if encodeErr := json.NewEncoder(stdout).Encode(result); encodeErr != nil {
			return errors.Join(err, fmt.Errorf("write the result: %w", encodeErr))
		}
		return err
	}
	return errors.Join(err, result.print(stdout, f.tally))
}

func newFleet(o *options, log *slog.Logger) (*fleet, error) {
	f := &fleet{options: o, log: log, tally: newTally(), run: rand.Uint64N(readings.MaxRun-1) + 1}
	var files []*readings.File
	var err error
	if len(o.Replay) > 0 {
		if files, err = loadReplay(o.Replay); err != nil {
			return nil, err
		}
	}
	f.build(files)
	if o.AdminTokenFile != "" {
		token, err := readToken(o.AdminTokenFile)
		if err != nil {
			return nil, err
		}
		if f.api, err = client.New(client.Config{URL: o.URL, Token: token, CAFile: o.CA, Agent: "device-sim"}); err != nil {
			return nil, err
		}
	}
	if o.EnrolKey != "" {
		key, err := readToken(o.EnrolKey)
		if err != nil {
			return nil, err
		}
		for _, d := range f.devices {
			d.credentials.set(key)
			d.enrolment = newEnrolment(key)
		}
	} else if o.Device != "" {
		token, err := readToken(o.TokenFile)
		f.devices[0].credentials.set(token)
		f.devices[0].credentials.file = o.TokenFile
		if err != nil {
			return nil, err
		}
	}
	f.dial, err = newDialer(o, len(f.devices))
	return f, err
}

func newDialer(o *options, devices int) (*dialer, error) {
	hub, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	hub.Path = strings.TrimRight(hub.Path, "/")
	broker, err := url.Parse(o.MQTTURL)
	if err != nil {
		return nil, fmt.Errorf("--mqtt-url: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read --ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s: no certificate in PEM in it", o.CA)
		}
	}
	return &dialer{hub: hub, broker: broker, roots: config, wss: newWSSDialer(o.Batch), many: devices > portsPerAddress}, nil
}

func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("read the token: %s is empty", path)
	}
	return token, nil
}

// isPassing says whether a failed connection is one of a hub that starts, stops or is busy.
func isPassing(err error) bool {
	var network net.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) && network.Timeout()
}

// perform runs the fleet from registration to verdict. The result is nil if the run never began.
func (f *fleet) perform(ctx context.Context, stderr io.Writer) (*summary, error) {
	shown := newProgress(stderr, f)
	defer shown.stop()
	if f.options.Device == "" && f.options.EnrolKey == "" {
		err := f.register(ctx, shown.registered)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted before all devices were registered")
		}
		if err != nil {
			return nil, err
		}
	}
	var before audit
	if f.options.Verify {
		var err error
		if before, err = f.audit(ctx); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	began := time.Now()
	start, elapsed := f.send(ctx, shown)
	shown.stop()
	result := f.summarize(elapsed)
	if f.options.Verify {
		sleep(ctx, f.options.VerifyAfter)
		// After Ctrl-C as well: what was sent is worth the verdict. A second one ends the process.
		if err := f.verify(context.WithoutCancel(ctx), result, before, began, start); err != nil {
			return result, err
		}
	}
	return result, nil
}

// send connects the devices and sends readings until the run's end and the last acknowledgement. It returns when the
// readings began, and how long it took from there.
func (f *fleet) send(ctx context.Context, shown *progress) (start time.Time, elapsed time.Duration) {
	alive, over := context.WithCancel(context.WithoutCancel(ctx))
	f.start(alive)
	f.awaitJoined(ctx)
	start = time.Now()
	shown.begin(start)
	producing, stop := context.WithCancel(ctx)
	if f.options.Duration > 0 {
		producing, stop = context.WithTimeout(ctx, f.options.Duration)
	}
	f.produce(producing, start)
	stop()
	f.finish()
	f.drainAtEnd(ctx)
	elapsed = time.Since(start)
	over()
	f.running.Wait()
	f.dial.abandoned.closeAll()
	return start, elapsed
}

// drainAtEnd waits for the missing acknowledgements: patiently, but only a few seconds once Ctrl-C was pressed.
func (f *fleet) drainAtEnd(ctx context.Context) {
	f.drain(ctx, drainPatience)
	if ctx.Err() != nil {
		gentle, cancel := context.WithTimeout(context.WithoutCancel(ctx), gentlePatience)
		defer cancel()
		f.drain(gentle, drainPatience)
	}
	if left := f.outstanding(); left > 0 {
		f.log.Warn("readings are left without acknowledgement", "readings", left, "last_error", f.tally.lastCause())
	}
}
