package enrolment

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"telemetryhub/devices"
)

// Limits of a key.
const (
	// MaxKeys is how many keys there may be.
	MaxKeys    = 1000
	maxName    = 128 // bytes
	maxLimit   = 1_000_000
	maxPattern = 128 // bytes
)

// Terms are what an operator sets of a key.
type Terms struct {
	Name    string    `json:"name"`              // for people
	Limit   int       `json:"limit"`             // devices that it may enrol, in all
	Expires time.Time `json:"expires,omitzero"`  // it is of no use from then on; zero: never
	Type    string    `json:"type,omitempty"`    // of its devices; empty: what each says
	Tags    []string  `json:"tags,omitempty"`    // given to its devices
	Pattern string    `json:"pattern,omitempty"` // of its devices' ids: * is any text, ? one character; empty: any id
	Again   bool      `json:"again,omitempty"`   // a device that it enrolled may enrol again, as after a factory reset
}

// validate says which of them is wrong.
func (t Terms) validate() error {
	switch {
	case t.Name == "" || len(t.Name) > maxName || strings.ContainsFunc(t.Name, isControl):
		return &devices.InvalidError{Field: "name", Message: fmt.Sprintf("a text of 1 to %d bytes without control characters", maxName)}
	case t.Limit < 1 || t.Limit > maxLimit:
		return &devices.InvalidError{Field: "limit", Message: fmt.Sprintf("%d: a key is for 1 to %d devices", t.Limit, maxLimit)}
	}
	if err := checkPattern(t.Pattern); err != nil {
		return err
	}
	// The registry's own rules for what it would be given.
	return devices.Device{ID: "any", Type: t.Type, Tags: t.Tags}.Validate()
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// checkPattern takes the characters of device ids, * and ?. So there is nothing to escape, and path.Match, whose other
// signs are not among them, does the rest in time that grows with the product of both lengths.
func checkPattern(pattern string) error {
	if len(pattern) > maxPattern {
		return &devices.InvalidError{Field: "pattern", Message: fmt.Sprintf("%d bytes; at most %d", len(pattern), maxPattern)}
	}
	for _, c := range pattern {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("._:-*?", c) {
			return &devices.InvalidError{Field: "pattern", Message: fmt.Sprintf("%q: it holds characters of device ids, * for any text and ? for one character", pattern)}
		}
	}
	return nil
}

// takes reports whether a device of that id may enrol.
func (t Terms) takes(id string) bool {
	if t.Pattern == "" {
		return true
	}
	ok, err := path.Match(t.Pattern, id)
	return ok && err == nil
}

// Change is what an operator changes of a key; nil leaves it. What its devices get does not change: make another key.
type Change struct {
	Name    *string
	Enabled *bool
	Limit   *int
	Expires *time.Time // zero: never
	Again   *bool
}

func (c Change) apply(k *Key) error {
	if c.Name != nil {
		k.Name = *c.Name
	}
	if c.Enabled != nil {
		k.Enabled = *c.Enabled
	}
	if c.Limit != nil {
		if *c.Limit < k.Used {
			return &devices.InvalidError{Field: "limit", Message: fmt.Sprintf("%d: it has enrolled %d devices already; disable it to end it", *c.Limit, k.Used)}
		}
		k.Limit = *c.Limit
	}
	if c.Expires != nil {
		k.Expires = *c.Expires
	}
	if c.Again != nil {
		k.Again = *c.Again
	}
	return k.validate()
}

// clone is t with a list of its own.
func (t Terms) clone() Terms {
	t.Tags = slices.Clone(t.Tags)
	return t
}
