package main

import (
	"os"
	"os/exec"
	"syscall"
)

// bind makes the child die with this process, however that ends.
func bind(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// killed says whether a process ended by SIGKILL.
func killed(state *os.ProcessState) bool {
	status, is := state.Sys().(syscall.WaitStatus)
	return is && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// mountTmpfs mounts a file system in memory of that many bytes.
func mountTmpfs(dir, size string) error {
	return syscall.Mount("torture", dir, "tmpfs", 0, "size="+size)
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
