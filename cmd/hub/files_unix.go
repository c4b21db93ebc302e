//go:build unix

package main

import "syscall"

// openFiles is how many files the process may open. Go has raised the limit to the hardest that it may.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > unlimitedFiles {
		return unlimitedFiles
	}
	return int(limit.Cur)
}
