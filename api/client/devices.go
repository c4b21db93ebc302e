package client

import (
	"context"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Device is a device as the hub lists it: what was registered, and whether it is connected.
type Device struct {
	ID         string            `json:"id"`
	Type       string            `json:"type,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Enabled    bool              `json:"enabled"`
	Created    time.Time         `json:"created,omitzero"`
	Enrolled   *Enrolled         `json:"enrolled,omitempty"` // nil: by no enrolment key
	Admitted   *Admitted         `json:"admitted,omitempty"` // nil: no bridge had seen it first
	Presence
	Units  map[string]string `json:"units,omitempty"`  // by field, as the device last said them in SenML, else as its type has them
	Limits map[string]Limit  `json:"limits,omitempty"` // by name; not in lists
	Slowed *Slowed           `json:"slowed,omitempty"` // nil: its limits have cost it nothing; not in lists
	Latest map[string]Value  `json:"latest,omitempty"` // only when asked for
}

// Limit is one that holds for a device.
type Limit struct {
	Value int64  `json:"value"` // 0: no bound
	From  string `json:"from"`  // whose it is: device, type or default
}

// Slowed is what a device's limits have cost it since the hub's start.
type Slowed struct {
	HeldMs  int64     `json:"held_ms"` // for which it was not read
	Refused uint64    `json:"refused"` // posts and connections
	Limit   string    `json:"limit"`   // the last that it passed
	Last    time.Time `json:"last"`
}

// Enrolled says by which enrolment key a device came.
type Enrolled struct {
	Key       string    `json:"key"` // its id
	At        time.Time `json:"at"`
	Confirmed bool      `json:"confirmed"` // the device has used its own credentials, or has said that it has them
}

// Presence is what the hub knows of a device's connection.
type Presence struct {
	Online         bool      `json:"online"`
	Transport      string    `json:"transport,omitempty"` // wss, mqtt, mqtt+wss, bridge:NAME
	Remote         string    `json:"remote,omitempty"`
	ConnectedAt    time.Time `json:"connected_at,omitzero"`
	LastSeen       time.Time `json:"last_seen,omitzero"`
	DisconnectedAt time.Time `json:"disconnected_at,omitzero"`
	Cause          string    `json:"cause,omitempty"` // of the last connection's end
	Firmware       string    `json:"firmware,omitempty"`
	Model          string    `json:"model,omitempty"`
	Methods        []string  `json:"methods,omitempty"`         // announced in its last hello
	ClockOffsetMs  *int64    `json:"clock_offset_ms,omitempty"` // how far its clock is ahead of the hub's; nil: it never said
	Version        uint64    `json:"version,omitempty"`         // of the last change of its connection
	Boot           string    `json:"boot,omitempty"`
	Frozen         *Freeze   `json:"frozen,omitempty"`
	Silence        *Silence  `json:"silence,omitempty"`
	Unresponsive   time.Time `json:"unresponsive_since,omitzero"` // it shows signs of life, and its program says nothing
}

// Silence is what was learned of a device's network: the longest silence that its connection survived, in seconds, and the
// shortest after which it was lost without a word, in the last losses in a row.
type Silence struct {
	Survived int `json:"survived_s,omitempty"`
	Lost     int `json:"lost_s,omitempty"`
	Losses   int `json:"losses,omitempty"`
}

// Freeze says that several devices used one identity and displaced each other, and that nobody is let in by it.
type Freeze struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // zero: until an operator ends it
	Count int       `json:"count"`
	Sides []Side    `json:"sides"` // the newest connection first
}

// Side is one of those that displaced each other.
type Side struct {
	Remote      string    `json:"remote"`
	Boot        string    `json:"boot,omitempty"`
	Transport   string    `json:"transport"`
	Session     uint64    `json:"session"`
	ConnectedAt time.Time `json:"connected_at"`
}

// Value is the newest value of one field by the time it was measured.
type Value struct {
	Value any    `json:"value"`
	TS    int64  `json:"ts"`               // ms since the epoch
	AgeMs int64  `json:"age_ms,omitempty"` // only from Latest
	Unit  string `json:"unit,omitempty"`   // only from Latest, and where the device said it
}

// DeviceFilter narrows a list of devices; the zero value lists all.
type DeviceFilter struct {
	Query  string // part of an id, type or tag
	Tag    string
	Online *bool
	Latest bool // with the latest values
	Page   int  // devices asked for at once; 0 is the hub's default
}

func (f DeviceFilter) query() url.Values {
	q := url.Values{}
	setText(q, "q", f.Query)
	setText(q, "tag", f.Tag)
	if f.Online != nil {
		q.Set("online", strconv.FormatBool(*f.Online))
	}
	if f.Latest {
		q.Set("latest", "true")
	}
	setInt(q, "limit", f.Page)
	return q
}

// Devices lists the devices, page after page, sorted by id. After an error the sequence ends.
func (c *Client) Devices(ctx context.Context, f DeviceFilter) iter.Seq2[Device, error] {
	return pages(f.query(), func(q url.Values) ([]Device, string, error) {
		var page struct {
			Devices []Device `json:"devices"`
			Next    string   `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/devices", query: q}, &page)
		return page.Devices, page.Next, err
	})
}

// NewDevice is a device to register. The id is 1 to 64 of [A-Za-z0-9._:-].
type NewDevice struct {
	ID         string            `json:"id"`
	Type       string            `json:"type,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// CreatedDevice is a new device with its token, which is shown this once.
type CreatedDevice struct {
	Token string `json:"token"`
	Device
}

// CreateDevice registers a device. One that exists is a Problem with status 409.
func (c *Client) CreateDevice(ctx context.Context, d NewDevice) (CreatedDevice, error) {
	var created CreatedDevice
	err := c.do(ctx, call{method: http.MethodPost, path: "/api/v1/devices", body: d}, &created)
	return created, err
}

// GetDevice returns one device; an unknown one is a Problem with status 404.
func (c *Client) GetDevice(ctx context.Context, id string) (Device, error) {
	var d Device
	err := c.do(ctx, call{method: http.MethodGet, path: devicePath(id)}, &d)
	return d, err
}

// DeviceChange holds what is to change; nil leaves a member as it is. Attributes are merged into those
// there are; nil removes one.
type DeviceChange struct {
	Type       *string            `json:"type,omitempty"`
	Tags       *[]string          `json:"tags,omitempty"`
	Attributes map[string]*string `json:"attributes,omitempty"`
	Enabled    *bool              `json:"enabled,omitempty"`
	Limits     map[string]*int64  `json:"limits,omitempty"` // by name; nil gives one back to the device's type
}

// UpdateDevice changes a device and returns it.
func (c *Client) UpdateDevice(ctx context.Context, id string, change DeviceChange) (Device, error) {
	var d Device
	err := c.do(ctx, call{method: http.MethodPatch, path: devicePath(id), body: change}, &d)
	return d, err
}

// DeletedDevice says what becomes of a removed device's data.
type DeletedDevice struct {
	ID   string `json:"id"`
	Data string `json:"data,omitempty"`
}

// DeleteDevice removes a device from the registry; its connection is closed.
func (c *Client) DeleteDevice(ctx context.Context, id string) (DeletedDevice, error) {
	var gone DeletedDevice
	err := c.do(ctx, call{method: http.MethodDelete, path: devicePath(id)}, &gone)
	return gone, err
}

// Unfreeze lets a device in again that was frozen as a clone. One that is not frozen is a Problem with status 409.
func (c *Client) Unfreeze(ctx context.Context, id string) (Device, error) {
	var d Device
	err := c.do(ctx, call{method: http.MethodPost, path: devicePath(id) + "/unfreeze"}, &d)
	return d, err
}

// Probed is what came of a probe.
type Probed struct {
	Device  string  `json:"device"`
	Outcome string  `json:"outcome"` // answered, unresponsive, silent, gone
	TookMs  float64 `json:"took_ms"`
}

// Probe asks a device whether its program lives, and waits for the outcome. One that is not connected is a Problem with
// status 409.
func (c *Client) Probe(ctx context.Context, id string) (Probed, error) {
	var p Probed
	err := c.do(ctx, call{method: http.MethodPost, path: devicePath(id) + "/probe"}, &p)
	return p, err
}

func devicePath(id string) string { return "/api/v1/devices/" + url.PathEscape(id) }

func setText(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setInt(q url.Values, name string, value int) {
	if value > 0 {
		q.Set(name, strconv.Itoa(value))
	}
}

// pages walks a list by its cursor until it ends, fails or the caller has enough.
func pages[T any](q url.Values, page func(url.Values) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := maps.Clone(q) // so that the sequence can be walked twice
		for {
			items, next, err := page(q)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" || next == q.Get("cursor") {
				return
			}
			q.Set("cursor", next)
		}
	}
}
