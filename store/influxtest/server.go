package influxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

const (
	startTime    = 90 * time.Second // influxd needs about 6 s on an idle machine
	stopTime     = 30 * time.Second // then it is killed
	pollInterval = 50 * time.Millisecond
	startTries   = 3 // another process may take the free port first
)

// Server is one influxd with its folder and its port, running or not. Its methods may not be called at the same time.
type Server struct {
	binary, dir, address string
	output               lockedBuffer
	process              *os.Process
	exited               chan struct{} // closed when process has ended
}

// Start runs influxd with its data in dir and returns when it answers. The caller ends it by Stop or Kill.
func Start(ctx context.Context, dir string) (*Server, error) {
	binary, err := Binary(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{binary: binary, dir: dir}
	for try := 1; ; try++ {
		if s.address, err = freeAddress(ctx); err != nil {
			return nil, err
		}
		if err = s.Restart(ctx); err == nil || try == startTries || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// URL is the server's base URL. It stays the same over Stop, Kill and Restart.
func (s *Server) URL() string { return "http://" + s.address }

// Stop ends the server by SIGTERM, as an operator does, and waits for the end. Stopping a stopped server is no error.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	if err := terminate(s.process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("influxtest: stop: %w", err)
	}
	select {
	case <-s.exited:
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("influxtest: influxd did not stop in %s and was killed", stopTime), s.Kill())
	}
	s.process = nil
	return nil
}

// Kill ends the server by SIGKILL, as a crash does, and waits for the end. Killing a stopped server is no error.
func (s *Server) Kill() error {
	if s.process == nil {
		return nil
	}
	if err := s.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("influxtest: kill: %w", err)
	}
	<-s.exited
	s.process = nil
	return nil
}

// Restart starts the server again on the same data and the same port, stopping it first if it runs, and returns when it
// answers.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	config := filepath.Join(s.dir, "influxd.conf")
	if err := os.WriteFile(config, s.config(), 0o600); err != nil {
		return fmt.Errorf("influxtest: %w", err)
	}
	cmd := exec.Command(s.binary, "run", "-config", config) // not CommandContext: it outlives the context of the start
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("influxtest: start: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is told by the output
		close(exited)
	}()
	s.process, s.exited = cmd.Process, exited
	if err := s.waitReady(ctx); err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// waitReady asks /ping until it answers, the process ends, or the time is over.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/ping", nil)
		if err != nil {
			return fmt.Errorf("influxtest: %w", err)
		}
		if answer, err := client.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusNoContent {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("influxtest: influxd ended at its start: %s", s.output.tail())
		case <-ctx.Done():
			return fmt.Errorf("influxtest: influxd does not answer: %w: %s", ctx.Err(), s.output.tail())
		}
	}
}

// config keeps influxd inside its folder and on loopback, silent, and reporting to nobody.
func (s *Server) config() []byte {
	return fmt.Appendf(nil, `reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = %q
  logging-enabled = false
[data]
  dir = %q
  wal-dir = %q
  index-version = "tsi1"
  query-log-enabled = false
[coordinator]
  log-queries-after = "0s"
[monitor]
  store-enabled = false
[http]
  bind-address = %q
  log-enabled = false
  flux-enabled = false
  max-body-size = 25000000
[subscriber]
  enabled = false
[logging]
  level = "error"
  suppress-logo = true
`, filepath.Join(s.dir, "meta"), filepath.Join(s.dir, "data"), filepath.Join(s.dir, "wal"), s.address)
}

// freeAddress finds a port by binding it once. influxd cannot tell which port it got for port 0.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("influxtest: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// lockedBuffer keeps the end of what influxd prints, for the error of a start that fails.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// maxOutput is plenty for the reason of a failed start.
const maxOutput = 64 << 10

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len() > maxOutput {
		b.buf.Reset()
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.buf.Bytes()
	return string(bytes.TrimSpace(text[max(0, len(text)-1000):]))
}
