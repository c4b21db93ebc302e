package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// outcome is what a fault came to.
type outcome struct {
	judged      bool // the judge has spoken
	sent, acked uint64
	stored      uint64
	lost        uint64   // acked, and neither stored nor named by the hub's account
	doubled     uint64   // points too many
	facts       []string // key=value, in order
	problems    []error
}

// fact adds a figure to the line.
func (o *outcome) fact(key string, value any) {
	o.facts = append(o.facts, fmt.Sprintf("%s=%v", key, value))
}

func (o *outcome) problem(format string, args ...any) {
	o.problems = append(o.problems, fmt.Errorf(format, args...))
}

// happened is a fact that must not be 0: without it the fault was not played.
func (o *outcome) happened(key string, count int) {
	o.fact(key, count)
	if count <= 0 {
		o.problem("the fault was not played: %s=%d", key, count)
	}
}

// never is a fact that must be 0.
func (o *outcome) never(key string, count int) {
	o.fact(key, count)
	if count != 0 {
		o.problem("%s=%d, want 0", key, count)
	}
}

// err is nil if the product stood it.
func (o *outcome) err() error {
	problems := o.problems
	switch {
	case !o.judged:
		problems = append(problems, errors.New("the judge did not speak"))
	case o.lost > 0 || o.doubled > 0:
		problems = append(problems, fmt.Errorf("%d readings are missing, %d are too many", o.lost, o.doubled))
	case o.acked == 0:
		problems = append(problems, errors.New("nothing was acked: nothing was tried"))
	}
	return errors.Join(problems...)
}

// line is the fault's line.
func (o *outcome) line(name string) string {
	lost, doubled := "unknown", "unknown"
	if o.judged {
		lost, doubled = strconv.FormatUint(o.lost, 10), strconv.FormatUint(o.doubled, 10)
	}
	line := fmt.Sprintf("fault=%s sent=%d acked=%d stored=%d lost=%s doubled=%s", name, o.sent, o.acked, o.stored, lost, doubled)
	if len(o.facts) > 0 {
		line += " " + strings.Join(o.facts, " ")
	}
	if err := o.err(); err != nil {
		line += " failed=" + strconv.Quote(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return line
}
