package influxtest

import (
	"os"
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the server when the test binary ends without running its cleanups (a panic, a
// test timeout).
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// terminate asks the server to stop.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
