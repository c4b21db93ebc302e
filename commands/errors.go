package commands

import (
	"errors"
	"fmt"
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("no such command")
	// ErrTooLate refuses to cancel what was sent: the hub cannot know that it will not run.
	ErrTooLate = errors.New("too late to cancel")
	ErrClosed  = errors.New("the command ledger is closed")
)

// OfflineError refuses a command because its device is not connected. Nothing was recorded.
type OfflineError struct{ Device string }

func (e *OfflineError) Error() string {
	return fmt.Sprintf("device %s is not connected; nothing was sent", e.Device)
}

// InvalidError refuses a request. Limit and Value are set where a size was passed, Reason and Faults by the Catalogue.
type InvalidError struct {
	Field        string // method, params, delivery, expires, timeout, device, idempotency_key
	Message      string
	Limit, Value int64
	Reason       string // for programs; empty: invalid
	Faults       []Fault
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Message }

// BusyError refuses a command because too many are open.
type BusyError struct{ Limit int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%d commands are open, which is the limit; try again when some have ended", e.Limit)
}
