package state

import (
	"errors"
	"fmt"

	"telemetryhub/wire"
)

// Errors that a caller tells apart.
var (
	ErrClosed = errors.New("the states of devices are closed")
	// ErrNoDevice refuses a change of a device that does not exist, or was deleted meanwhile.
	ErrNoDevice = errors.New("no such device")
	// ErrNotMade says that an operator's change was not made: the bucket could not be reached in time.
	ErrNotMade = errors.New("the change was not made")
	// ErrUncertain says that nobody knows whether an operator's change was made.
	ErrUncertain = errors.New("it is not known whether the change was made")
)

// InvalidError refuses a patch. Limit and Value are set where a limit was passed.
type InvalidError struct {
	Pointer      string // JSON pointer (RFC 6901) of the fault
	Message      string
	Limit, Value int64
	TooLarge     bool // the document would be
}

func (e *InvalidError) Error() string {
	if e.Pointer == "" {
		return e.Message
	}
	return e.Pointer + ": " + e.Message
}

// under says the pointer from the document's root.
func (e *InvalidError) under(side Side) *InvalidError {
	below := *e
	below.Pointer = "/" + string(side) + e.Pointer
	return &below
}

// wire says it in the device's words.
func (e *InvalidError) wire() *wire.Error {
	w := &wire.Error{Code: wire.CodeInvalidParams, Reason: wire.ReasonBadParams, Message: e.Error(), Limit: e.Limit, Value: e.Value}
	if e.TooLarge {
		w.Code, w.Reason = wire.CodeTooLarge, wire.ReasonStateTooLarge
	}
	return w
}

// VersionError refuses a change that was meant for another version.
type VersionError struct {
	Device  string
	Current uint64
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the state of device %s has version %d, another than the change is for", e.Device, e.Current)
}

// BusyError refuses a change because too many of the device are under way.
type BusyError struct{ Limit int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%d changes of this device's desired state are under way, which is the limit", e.Limit)
}
