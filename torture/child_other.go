//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
)

// bind does nothing where the system has no such order.
func bind(*exec.Cmd) {}

func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }

func killed(state *os.ProcessState) bool { return !state.Success() }

func mountTmpfs(string, string) error { return errors.ErrUnsupported }

func unmount(string) error { return errors.ErrUnsupported }
