package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// stopLimit is how long a child may take to end on request: the hub's own budget is 20 s.
const stopLimit = 40 * time.Second

// child is a process that this program started.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdout *tail
	stderr *tail
	ended  chan struct{} // closed when the process is gone
	err    error         // how it ended; valid after ended
}

// spawn starts a program. The last of its words are kept.
func spawn(environment []string, binary string, args ...string) (*child, error) {
	c := &child{
		name: filepath.Base(binary), cmd: exec.Command(binary, args...),
		stdout: &tail{}, stderr: &tail{}, ended: make(chan struct{}),
	}
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, c.stderr
	c.cmd.Env = append(os.Environ(), environment...)
	bind(c.cmd)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// alive is an error once the process is gone.
func (c *child) alive() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s has ended by itself: %w: %s", c.name, c.ending(), c.stderr.last(5))
	default:
		return nil
	}
}

func (c *child) ending() error {
	if c.err == nil {
		return errors.New("exit status 0")
	}
	return c.err
}

// kill ends the process at once and waits for its end. It says whether the process lived until then.
func (c *child) kill() bool {
	_ = c.cmd.Process.Kill() // the only failure is that it has ended
	<-c.ended
	return killed(c.cmd.ProcessState)
}

// stop asks the process to end and waits for it.
func (c *child) stop() error {
	if err := terminate(c.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	select {
	case <-c.ended:
	case <-time.After(stopLimit):
		c.kill()
		return fmt.Errorf("%s did not end in %v and was killed", c.name, stopLimit)
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w: %s", c.name, c.err, c.stderr.last(5))
	}
	return nil
}

// tailBytes is how much of a child's output is kept.
const tailBytes = 256 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf)
}

// last is the last few lines.
func (t *tail) last(lines int) string {
	text := bytes.TrimSpace(t.text())
	from := len(text)
	for ; lines > 0 && from >= 0; lines-- {
		from = bytes.LastIndexByte(text[:from], '\n')
	}
	return string(text[from+1:])
}

// complaints are the last few lines of a log that are warnings or worse.
func (t *tail) complaints(lines int) string {
	var found []string
	for line := range strings.Lines(string(t.text())) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") || !strings.Contains(line, "level=") {
			found = append(found, line)
		}
	}
	return strings.Join(found[max(0, len(found)-lines):], "")
}
