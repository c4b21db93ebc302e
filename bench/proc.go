package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc: USER_HZ, which is 100 on every architecture that Go runs on (proc(5)).
const tick = 10 * time.Millisecond

// cpuTime is the processor time that a process has used, in user and kernel mode, all its threads.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	return parseCPU(data)
}

// parseCPU reads /proc/PID/stat. The name of the program, in brackets, may hold blanks and brackets itself.
func parseCPU(stat []byte) (time.Duration, error) {
	_, rest, found := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	if !found {
		return 0, errors.New("processor time: /proc/PID/stat has no name in brackets")
	}
	// The state, which comes next, is field 3 of proc(5); utime is 14, stime 15.
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0, fmt.Errorf("processor time: /proc/PID/stat has only %d fields after the name", len(fields))
	}
	var ticks uint64
	for _, text := range fields[11:13] {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// residentKB is the memory of a process that is in RAM, in KB of 1024 bytes.
func residentKB(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	return parseResident(data)
}

// parseResident reads VmRSS of /proc/PID/status.
func parseResident(status []byte) (float64, error) {
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "VmRSS" {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		kb, err := strconv.ParseUint(number, 10, 64)
		if err != nil || unit != "kB" {
			return 0, fmt.Errorf("resident memory: %q is no number of kB", strings.TrimSpace(value))
		}
		return float64(kb), nil
	}
	return 0, errors.New("resident memory: no VmRSS, so the process has ended")
}

// loadNow is the machine's load average over one minute; 0 where it is not known.
func loadNow() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	return parseLoad(string(data))
}

func parseLoad(text string) float64 {
	first, _, _ := strings.Cut(text, " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}
