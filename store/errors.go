package store

import (
	"errors"
	"fmt"
	"time"
)

// ErrClosed is wrapped in the error of each call after Close.
var ErrClosed = errors.New("store is closed")

// RejectedError says that a batch holds points that can never be stored as they are: unreadable line protocol, a field
// of another type than the stored one, a time beyond the retention. The good points of the batch may be stored or not.
type RejectedError struct {
	Line    int // index of the bad line in the batch, from 0; -1 if the engine did not tell
	Message string
}

// Error implements error.
func (e *RejectedError) Error() string {
	if e.Line < 0 {
		return "store: rejected: " + e.Message
	}
	return fmt.Sprintf("store: rejected line %d: %s", e.Line, e.Message)
}

// TooLargeError says that a batch is larger than the server takes in one request. Smaller parts of it may pass.
type TooLargeError struct {
	Size    int // bytes of line protocol in the batch, before compression
	Message string
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("store: a batch of %d bytes is too large for the server: %s", e.Size, e.Message)
}

// ConfigError says that nothing is wrong with the data, and that trying again will not help until somebody mends the
// configuration here or on the server. Nothing was written.
type ConfigError struct {
	Status  int    // HTTP status; 0 if it was found without one
	Message string // what is wrong
	Mend    string // what to do
}

// Error implements error.
func (e *ConfigError) Error() string {
	text := "store: " + e.Message
	if e.Status != 0 {
		text = fmt.Sprintf("store: status %d: %s", e.Status, e.Message)
	}
	if e.Mend != "" {
		text += "; " + e.Mend
	}
	return text
}

// RetryError says that it is not known whether anything was written, or that the server cannot take it now. The same
// batch can be sent again: it makes no second points.
type RetryError struct {
	After time.Duration // what the server asked for; 0 if it did not
	Err   error
}

// Error implements error.
func (e *RetryError) Error() string { return "store: try again: " + e.Err.Error() }

// Unwrap gives the cause: a network error, the context's error, or ErrClosed.
func (e *RetryError) Unwrap() error { return e.Err }

// InvalidQueryError says which part of a Query cannot be answered, and why.
type InvalidQueryError struct {
	Field   string // device, measurement, fields, from, to, every, fn, limit or cursor
	Message string
}

// Error implements error.
func (e *InvalidQueryError) Error() string { return "store: query: " + e.Field + ": " + e.Message }
