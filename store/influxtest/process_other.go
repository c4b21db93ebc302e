//go:build !linux

package influxtest

import (
	"os"
	"os/exec"
)

// dieWithParent does nothing where the system has no such order.
func dieWithParent(*exec.Cmd) {}

// terminate asks the server to stop.
func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }
