package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// DeviceMethods is what commands a device takes.
type DeviceMethods struct {
	Type         string         `json:"type,omitempty"`
	Methods      []DeviceMethod `json:"methods"`
	OtherMethods string         `json:"other_methods"` // allow, refuse, announced
}

// DeviceMethod is one method of a device.
type DeviceMethod struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Params      json.RawMessage `json:"params,omitempty"` // a JSON Schema; nil: anything
	TimeoutMs   int64           `json:"timeout_ms,omitempty"`
	Delivery    string          `json:"delivery,omitempty"`
	Role        string          `json:"role"`
	Listed      bool            `json:"listed"`    // its type has it
	Announced   bool            `json:"announced"` // its hello said so
	Taken       bool            `json:"taken"`     // the hub sends it
}

// DeviceMethods says what commands a device takes.
func (c *Client) DeviceMethods(ctx context.Context, device string) (DeviceMethods, error) {
	var m DeviceMethods
	err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device) + "/methods"}, &m)
	return m, err
}
