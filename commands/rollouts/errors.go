package rollouts

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("no such rollout")
	ErrClosed   = errors.New("rollouts are closed")
)

// StateError refuses to change a rollout that is not in the right state.
type StateError struct {
	ID    string
	State State
	Want  string // what would have been right
}

func (e *StateError) Error() string {
	return fmt.Sprintf("rollout %s is %s; only %s can do that", e.ID, e.State, e.Want)
}

// BusyError refuses a rollout because too much is open.
type BusyError struct {
	What         string // rollouts or devices
	Limit, Value int
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("open rollouts would have %d %s; %d is the limit: wait for some to end, or cancel some", e.Value, e.What, e.Limit)
}

// UnknownDevicesError names the devices of a selector that cannot be meant. Nothing was recorded.
type UnknownDevicesError struct {
	Unknown  []string
	Disabled []string
}

func (e *UnknownDevicesError) Error() string {
	var parts []string
	if n := len(e.Unknown); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of the ids are unknown: %s", n, some(e.Unknown)))
	}
	if n := len(e.Disabled); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of the devices are disabled: %s", n, some(e.Disabled)))
	}
	return strings.Join(parts, "; ")
}

// some writes the first few ids.
func some(ids []string) string {
	const most = 10
	if len(ids) <= most {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
}

// Refusal is why a device cannot be sent the command.
type Refusal struct{ Device, Reason string }

// MaxRefusals bounds how many refusals are listed; all are counted.
const MaxRefusals = 100

// RefusedError refuses a rollout because the ledger would refuse the command for some devices. Nothing was recorded.
type RefusedError struct {
	Count    int
	Of       int       // devices
	Refusals []Refusal // the first of them
}

func (e *RefusedError) Error() string {
	first := ""
	if len(e.Refusals) > 0 {
		first = ", such as " + e.Refusals[0].Device + ": " + e.Refusals[0].Reason
	}
	return fmt.Sprintf("%d of %d devices cannot be sent this%s", e.Count, e.Of, first)
}
