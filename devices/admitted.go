package devices

import (
	"context"
	"errors"
	"time"
)

// Admitted says how a device came to the registry that an MQTT bridge had seen. It has no token until it is given one:
// the broker vouches for it.
type Admitted struct {
	Bridge   string    `json:"bridge"`
	Rule     string    `json:"rule,omitempty"` // of the configuration that let it in; empty: an operator did
	By       string    `json:"by,omitempty"`   // the operator
	At       time.Time `json:"at"`
	Model    string    `json:"model,omitempty"`
	Firmware string    `json:"firmware,omitempty"` // both as they were announced then
}

// Adopt adds a device without a token, enabled; d.Admitted says how it came. Errors: *InvalidError; ErrExists, and then Get
// knows the one there is.
func (r *Registry) Adopt(ctx context.Context, d Device) (Device, error) {
	if err := d.validate(); err != nil {
		return Device{}, err
	}
	d.Enabled, d.Created, d.Tokens = true, stamp(), nil
	err := r.put(ctx, d, 0)
	if errors.Is(err, ErrExists) { // somebody else makes it at this moment
		err = errors.Join(err, r.refresh(ctx, d.ID))
	}
	return d, err
}
