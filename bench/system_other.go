//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
)

var errLinux = errors.New("bench needs Linux, as it reads /proc")

func bind(*exec.Cmd) {}

func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }

func suspend(*os.Process) error { return errLinux }
func resume(*os.Process) error  { return errLinux }

func openFiles() (int, error) { return 0, errLinux }

func inMemory(string) bool { return false }
