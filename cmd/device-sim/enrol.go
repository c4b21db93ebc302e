package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"telemetryhub/wire"
)

// enrolment is a device's way to a token of its own, which it keeps in memory. Until it has one it shows the key of the
// fleet's firmware.
type enrolment struct {
	key  string        // empty: the device was registered
	done chan struct{} // closed when it has a token and the hub was told so
	once sync.Once
}

func newEnrolment(key string) *enrolment { return &enrolment{key: key, done: make(chan struct{})} }

// isOpen reports whether the device has yet to be given a token.
func (e *enrolment) isOpen() bool {
	if e.key == "" {
		return false
	}
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}

// await returns when the device has a token; false: the connection or the run ended first.
func (e *enrolment) await(ctx context.Context, down <-chan struct{}) bool {
	if e.key == "" {
		return true
	}
	select {
	case <-e.done:
		return true
	case <-down:
	case <-ctx.Done():
	}
	return false
}

// enrolled takes hub.credentials of an enrolment: the token is stored, then that is said, then all else may follow.
func (d *device) enrolled(l link, in incoming) {
	var given struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(in.Params, &given) != nil || given.Token == "" {
		d.fleet.tally.note("hub.credentials is not understood", errors.New(d.id))
		d.respond(l, in.ID, nil, &rpcError{Code: wire.CodeInvalidParams, Message: "hub.credentials wants params with a token"})
		return
	}
	d.credentials.set(given.Token)
	d.respond(l, in.ID, struct{}{}, nil)
	d.enrolment.once.Do(func() {
		d.fleet.tally.enrolled.Add(1)
		close(d.enrolment.done)
	})
}
