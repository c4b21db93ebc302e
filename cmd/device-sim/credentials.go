package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryhub/wire"
)

// credentials are a device's flash for its token. It keeps the token before a new one until it has connected with that.
type credentials struct {
	file string // where the token is kept over runs; empty: nowhere

	mu     sync.Mutex
	token  string
	before string // empty: the token was used
}

func (c *credentials) current() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

// set makes token the one there is.
func (c *credentials) set(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.before = token, ""
}

// store keeps a new token for the next connection. It is on the disk when store returns nil.
func (c *credentials) store(token string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != "" {
		if err := replaceFile(c.file, []byte(token+"\n")); err != nil {
			return err
		}
	}
	if c.before == "" {
		c.before = c.token
	}
	c.token = token
	return nil
}

// used takes what came of a connection with the current token: let in, it is the only one from now on; refused, the one
// before is tried again.
func (c *credentials) used(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.before = ""
	case c.before != "" && isRefusedCredentials(err):
		c.token, c.before = c.before, c.token
		if c.file != "" {
			_ = replaceFile(c.file, []byte(c.token+"\n")) // else the next run finds the other one, and is refused
		}
	}
}

// isRefusedCredentials says whether the hub did not know the token.
func isRefusedCredentials(err error) bool {
	refused, is := errors.AsType[*refusedError](err)
	return is && refused.status == http.StatusUnauthorized || errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword)
}

// replaceFile writes a file that is whole whenever the process ends, readable by its owner alone.
func replaceFile(name string, data []byte) error {
	made, err := os.CreateTemp(filepath.Dir(name), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = made.Write(data)
	if err == nil {
		err = made.Sync()
	}
	if err = errors.Join(err, made.Close()); err == nil {
		err = os.Rename(made.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(made.Name()))
	}
	return nil
}

// renewID is the id of the request for a new token.
const renewID = `"renew"`

// renew asks for a new token: the one of this connection has expired, and is good for nothing else.
func (d *device) renew(l link) {
	if err := l.answer([]byte(`{"id":` + renewID + `,"method":"credentials"}`)); err != nil {
		d.fleet.tally.note("a new token could not be asked for", err)
	}
}

// renewed takes the answer, and connects anew with what it bears.
func (d *device) renewed(l link, in incoming) {
	var given struct {
		Token string `json:"token"`
	}
	switch {
	case in.Error != nil:
		d.fleet.tally.note("the hub gives no new token", errors.New(in.Error.Message))
		return
	case json.Unmarshal(in.Result, &given) != nil || given.Token == "":
		d.fleet.tally.note("the hub's answer to credentials is not understood", errors.New(d.id))
		return
	}
	if err := d.credentials.store(given.Token); err != nil {
		d.fleet.tally.note("a new token could not be stored", err)
		return
	}
	d.fleet.tally.rotated.Add(1)
	l.restart()
}

// rotate takes hub.credentials: the token is stored, then that is said.
func (d *device) rotate(l link, in incoming) {
	var given struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(in.Params, &given) != nil || given.Token == "" {
		d.respond(l, in.ID, nil, &rpcError{Code: wire.CodeInvalidParams, Message: "hub.credentials wants params with a token"})
		return
	}
	if err := d.credentials.store(given.Token); err != nil {
		d.fleet.tally.note("a new token could not be stored", err)
		d.respond(l, in.ID, nil, &rpcError{Code: wire.CodeInternal, Message: "the token could not be stored"})
		return
	}
	d.fleet.tally.rotated.Add(1)
	d.respond(l, in.ID, struct{}{}, nil)
}
