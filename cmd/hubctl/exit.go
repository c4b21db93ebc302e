package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"

	"telemetryhub/api/client"
)

// The exit status, as the help documents it.
const (
	exitOK      = 0
	exitError   = 1 // the hub refused, or cannot be reached
	exitUsage   = 2 // the command line is wrong
	exitFailed  = 3 // the device answered with an error: failed or rejected
	exitUnknown = 4 // sent, and nobody can say whether it ran
	exitNotRun  = 5 // expired or cancelled
	exitPending = 6 // no outcome yet when the waiting ended

	exitChanged = 8 // the state has another version than --if-match says; nothing was changed

	exitInterrupted = 130 // as shells have it: 128 + SIGINT
)

const exitHelp = `Exit status:

    0  done, or queued without --wait          1  the hub refused, or cannot be reached
    2  the command line is wrong             130  interrupted

of send, and of commands retry and cancel:

    3  the device answered with an error       4  sent, and unknown whether it ran
    5  expired or cancelled                    6  no outcome yet when the waiting ended

of devices probe:

    4  no answer: unresponsive, silent, or gone

of state set:

    8  the state has another version than --if-match says; nothing was changed`

// statusError ends hubctl with a status and, unless it is empty, a message.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// usageError is a fault of the command line that only a command itself can see.
func usageError(format string, args ...any) error {
	return &statusError{status: exitUsage, message: fmt.Sprintf(format, args...)}
}

// finish turns an error into the message on stderr and the exit status.
func finish(err error, stderr io.Writer, hasToken bool) int {
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exitOK // also when the reader of the output has enough
	}
	if errors.Is(err, context.Canceled) {
		say(stderr, "hubctl: interrupted")
		return exitInterrupted
	}
	if status, ok := errors.AsType[*statusError](err); ok {
		if status.message != "" {
			say(stderr, "hubctl: "+status.message)
		}
		return status.status
	}
	say(stderr, "hubctl: "+strings.ReplaceAll(err.Error(), "\n", "\nhubctl: "))
	switch {
	case client.IsReason(err, "version_mismatch"):
		return exitChanged
	case client.IsStatus(err, http.StatusUnauthorized) && !hasToken:
		say(stderr, "hubctl: no token was given: pass --token-file FILE or set HUB_TOKEN; the hub wrote an admin's to DIR/admin.token")
	case client.IsStatus(err, http.StatusUnauthorized):
		say(stderr, "hubctl: the hub does not know this token; is it from another hub's data folder?")
	case client.IsStatus(err, http.StatusNotFound):
		say(stderr, "hubctl: the known ones: hubctl devices ls, hubctl commands ls")
	}
	return exitError
}

// say writes a line; there is nobody to tell when stderr itself fails.
func say(w io.Writer, line string) { _, _ = fmt.Fprintln(w, line) }

// outcome is the error that a command's state means for the exit status, nil for done.
func outcome(c client.Command) error {
	fail := func(status int) error { return &statusError{status: status} }
	switch c.State {
	case "done":
		return nil
	case "failed", "rejected":
		return fail(exitFailed)
	case "unknown":
		return fail(exitUnknown)
	case "expired", "cancelled":
		return fail(exitNotRun)
	}
	return fail(exitPending)
}
