package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	Line    int    // in the file, from 1; 0: not from a line of the file
	Key     string // full path such as devices.keepalive, or the flag or environment variable; may be empty
	Message string
}

// ConfigError holds everything that is wrong with a configuration.
type ConfigError struct {
	File   string // empty: there was none
	Faults []Fault
}

// Error lists one fault a line, as hub.yaml:12: devices.keepalive: "fast" is not a duration; write it like 45s.
func (e *ConfigError) Error() string {
	lines := make([]string, 0, len(e.Faults))
	for _, fault := range e.Faults {
		var parts []string
		switch {
		case fault.Line > 0:
			parts = append(parts, fmt.Sprintf("%s:%d", e.File, fault.Line))
		case e.File != "" && !strings.HasPrefix(fault.Key, "--"):
			parts = append(parts, e.File)
		}
		if fault.Key != "" {
			parts = append(parts, fault.Key)
		}
		lines = append(lines, strings.Join(append(parts, fault.Message), ": "))
	}
	return strings.Join(lines, "\n")
}

// faultList collects faults with the places where their keys stand.
type faultList struct {
	faults []Fault
	lines  map[string]int    // full key -> line in the file
	flags  map[string]string // full key -> the flag that has overridden it
}

// addAt notes a fault found at a place in the file.
func (l *faultList) addAt(line int, key, format string, args ...any) {
	l.faults = append(l.faults, Fault{Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// add notes a fault of a value, wherever it came from. One fault for a key is enough: what follows is mostly its
// consequence.
func (l *faultList) add(key, format string, args ...any) {
	line := 0
	if flag, ok := l.flags[key]; ok {
		key = flag
	} else {
		line = l.lineOf(key)
	}
	for _, fault := range l.faults {
		if fault.Key == key {
			return
		}
	}
	l.addAt(line, key, format, args...)
}

// lineOf finds the key, or the section it is missing from.
func (l *faultList) lineOf(key string) int {
	for key != "" {
		if line, ok := l.lines[key]; ok {
			return line
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// err returns all faults in the order of the file, or nil.
func (l *faultList) err(file string) error {
	if len(l.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(l.faults, func(a, b Fault) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line) // those without a line come last
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return &ConfigError{File: file, Faults: l.faults}
}
