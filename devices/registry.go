package devices

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/auth"
	"telemetryhub/wire"
)

// Errors of the registry, for errors.Is.
var (
	ErrExists      = errors.New("the device exists")
	ErrNotFound    = errors.New("no such device")
	ErrCredentials = errors.New("the credentials are not those of a device")
	ErrDisabled    = errors.New("the device is disabled")
)

// InvalidError says which member of a device is wrong, and how.
type InvalidError struct {
	Field   string
	Message string
}

// Error says the field and the message.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Message }

// Limits of a registry record.
const (
	maxTags       = 64
	maxTag        = 128 // bytes
	maxAttributes = 64
	maxAttribute  = 1024 // bytes of a key or a value
)

// Device is one record of the registry. Its maps and slices are not changed once it was given out.
type Device struct {
	ID         string            `json:"id"`
	Type       string            `json:"type,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Enabled    bool              `json:"enabled"`
	Limits     map[string]int64  `json:"limits,omitempty"` // of its own, by name; the others are its type's
	Created    time.Time         `json:"created"`
	Tokens     []Token           `json:"tokens,omitempty"` // the oldest first
	// Certificates are those that the hub has issued, the oldest first; what it points to is not changed.
	Certificates []Certificate `json:"certificates,omitempty"`
	Enrolled     *Enrolled     `json:"enrolled,omitempty"` // by which enrolment key it came; nil: by none
	Admitted     *Admitted     `json:"admitted,omitempty"` // how it came that a bridge had seen; nil: it had not. What both point to is not changed
}

func (d Device) validate() error {
	if err := wire.CheckDeviceID(d.ID); err != nil {
		return &InvalidError{Field: "id", Message: err.Error()}
	}
	if len(d.Type) > maxTag {
		return &InvalidError{Field: "type", Message: fmt.Sprintf("%d bytes; at most %d", len(d.Type), maxTag)}
	}
	if len(d.Tags) > maxTags {
		return &InvalidError{Field: "tags", Message: fmt.Sprintf("%d tags; at most %d", len(d.Tags), maxTags)}
	}
	for i, tag := range d.Tags {
		if tag == "" || len(tag) > maxTag || hasControl(tag) {
			return &InvalidError{Field: fmt.Sprintf("tags[%d]", i), Message: fmt.Sprintf("%q is a text of 1 to %d bytes without control characters", tag, maxTag)}
		}
	}
	if len(d.Attributes) > maxAttributes {
		return &InvalidError{Field: "attributes", Message: fmt.Sprintf("%d attributes; at most %d", len(d.Attributes), maxAttributes)}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		if name == "" || len(name) > maxAttribute || len(d.Attributes[name]) > maxAttribute {
			return &InvalidError{Field: "attributes." + name, Message: fmt.Sprintf("names and values have at most %d bytes, names at least 1", maxAttribute)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Limits)) {
		if wrong := CheckLimit(name, d.Limits[name]); wrong != "" {
			return &InvalidError{Field: "limits." + name, Message: wrong}
		}
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// Registry is who may connect. It is a mirror in memory of a bucket; every change is in the bucket, synced, before it
// is in the mirror, and changes of other hubs arrive by a watch.
type Registry struct {
	kv      jetstream.KeyValue
	tokens  TokenConfig
	watcher jetstream.KeyWatcher
	done    chan struct{} // closed when the watch has ended

	changes  atomic.Uint64 // of the mirror, counted after each
	changing sync.RWMutex  // held for reading while a device is written, for writing by an import

	mu        sync.RWMutex
	byID      map[string]entry
	byToken   map[auth.Hash]string // device id
	certified int                  // devices with certificates
	deleted   map[string]uint64    // revision of devices deleted here, until the watch has brought that
	graves    map[string]uint64    // revision of the deletion, of devices that were
	plans     map[string]time.Time // keys of imports that are not finished, and when they were written

	follower func(ctx context.Context, device string) // see follow
	writing  map[string]int                           // devices that are being written here, which tells of them itself
}

type entry struct {
	device   Device
	revision uint64 // of the bucket
}

// Get returns the device with that id.
func (r *Registry) Get(id string) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.byID[id]
	return e.device, ok
}

// Len returns how many devices there are.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byID)
}

// HasCertificates reports whether any device has a certificate that the hub has issued.
func (r *Registry) HasCertificates() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.certified > 0
}

// List returns all devices, sorted by id.
func (r *Registry) List() []Device {
	r.mu.RLock()
	all := make([]Device, 0, len(r.byID))
	for _, e := range r.byID {
		all = append(all, e.device)
	}
	r.mu.RUnlock()
	slices.SortFunc(all, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Create adds a device, enabled, and returns it with its token, which is never shown again. Errors: *InvalidError,
// ErrExists.
func (r *Registry) Create(ctx context.Context, d Device) (Device, string, error) {
	if err := d.validate(); err != nil {
		return Device{}, "", err
	}
	token, hash, err := auth.NewToken(auth.DevicePrefix)
	if err != nil {
		return Device{}, "", err
	}
	d.Enabled, d.Created = true, stamp()
	d.Tokens = []Token{newToken(hash, d.Created, r.tokens.expiry(d.Created))}
	if err := r.put(ctx, d, 0); err != nil {
		return Device{}, "", err
	}
	return d, token, nil
}

// Update changes a device by change, which gets a copy and may be called again when another change came first. The id,
// the tokens and the time of creation stay. Errors: ErrNotFound, *InvalidError, change's own.
func (r *Registry) Update(ctx context.Context, id string, change func(*Device) error) (Device, error) {
	return r.update(ctx, id, func(d *Device) error {
		kept := *d
		if err := change(d); err != nil {
			return err
		}
		d.ID, d.Tokens, d.Certificates, d.Created = kept.ID, kept.Tokens, kept.Certificates, kept.Created
		return d.validate()
	})
}

// Authenticate returns the device that token belongs to, and what it proves. With an empty id the device is found by the
// token alone. Who is let in by a Proof that is good for renewal only may do nothing else. Errors: ErrCredentials;
// ErrDisabled and ErrExpired, which come with the device.
func (r *Registry) Authenticate(id, token string) (Device, Proof, error) {
	if token == "" {
		return Device{}, Proof{}, ErrCredentials
	}
	r.mu.RLock()
	if id == "" {
		// The map is keyed by the token's hash: what its timing could tell is of no use without the token.
		id = r.byToken[auth.HashToken(token)]
	}
	d := r.byID[id].device // of an unknown id: without a token
	r.mu.RUnlock()
	p, err := d.prove(token, r.tokens, time.Now())
	switch {
	case errors.Is(err, ErrCredentials):
		return Device{}, Proof{}, err
	case !d.Enabled:
		return d, p, ErrDisabled
	case err == nil && !p.Renewal && d.Unconfirmed():
		err = r.confirmUse(d.ID, p)
	}
	return d, p, err
}
