package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// tmpfsMagic is the type of a file system in memory (statfs(2)).
const tmpfsMagic = 0x01021994

// bind makes the kernel end the child when this process ends without doing so.
func bind(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// suspend stops a process without its knowledge, resume lets it go on.
func suspend(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error  { return p.Signal(syscall.SIGCONT) }

// openFiles is how many files a child may open: Go programs raise the soft limit to the hard one themselves.
func openFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return int(min(limit.Max, 1<<30)), nil
}

// inMemory says whether a folder is on a file system that forgets: its fsync costs nothing, so durable is a word there.
func inMemory(dir string) bool {
	var fs syscall.Statfs_t
	return syscall.Statfs(dir, &fs) == nil && int64(fs.Type) == tmpfsMagic
}
