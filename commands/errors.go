package commands

import (
	"errors"
	"fmt"
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("no such command")
	// ErrTooLate refuses to cancel what has ended.
	ErrTooLate = errors.New("too late to cancel")
	// ErrOpen refuses to repeat what has not ended.
	ErrOpen   = errors.New("the command has not ended")
	ErrClosed = errors.New("the command ledger is closed")
)

// QueueFullError refuses a command because too many wait for its device. Nothing was recorded.
type QueueFullError struct {
	Device       string
	Limit, Value int // commands
}

func (e *QueueFullError) Error() string {
	return fmt.Sprintf("%d commands wait for device %s, and the limit is %d (commands.queue); nothing was recorded", e.Value, e.Device, e.Limit)
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

// BusyError refuses a command because too many are open, or their params too large together.
type BusyError struct {
	Limit, Value int
	Unit         string // of both: commands or bytes
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("the open commands of all devices have %d %s, and the limit is %d; try again when some have ended", e.Value, e.Unit, e.Limit)
}
