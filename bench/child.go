package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// stopLimit is how long a child may take to end on request: the hub's own budget is 20 s.
const stopLimit = 30 * time.Second

// child is a process that this program started.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdout *tail
	stderr *tail
	ended  chan struct{} // closed when the process is gone
	err    error         // how it ended; valid after ended
}

// spawn starts a program. Its words are kept, the last of them, for the error message.
func spawn(binary string, args ...string) (*child, error) {
	c := &child{
		name: filepath.Base(binary), cmd: exec.Command(binary, args...),
		stdout: newTail(), stderr: newTail(), ended: make(chan struct{}),
	}
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, c.stderr
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

func (c *child) pid() int { return c.cmd.Process.Pid }

// alive is an error once the process is gone.
func (c *child) alive() error {
	select {
	case <-c.ended:
	default:
		return nil
	}
	if c.err == nil {
		return fmt.Errorf("%s has ended: %s", c.name, c.stderr)
	}
	return fmt.Errorf("%s has ended: %w: %s", c.name, c.err, c.stderr)
}

// kill ends the process at once and waits for its end.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // the only failure is that it has ended
	<-c.ended
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
		return fmt.Errorf("%s: %w: %s", c.name, c.err, c.stderr)
	}
	return nil
}

// tailBytes is how much of a child's output is kept.
const tailBytes = 8 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu      sync.Mutex
	buf     []byte
	changed chan struct{} // closed and made anew by each write
}

func newTail() *tail { return &tail{changed: make(chan struct{})} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return len(p), nil
}

// now returns what is kept, and a channel that is closed when there is more.
func (t *tail) now() (text []byte, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf), t.changed
}

// String is the last few lines, for an error message.
func (t *tail) String() string {
	text, _ := t.now()
	return string(bytes.TrimSpace(text[max(0, len(text)-1500):]))
}

// lastLine is the last line that is not empty.
func (t *tail) lastLine() []byte {
	text, _ := t.now()
	text = bytes.TrimSpace(text)
	return text[bytes.LastIndexByte(text, '\n')+1:]
}
