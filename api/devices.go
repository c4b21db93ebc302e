package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
)

// Device is a device as operators see it: what is registered, and how it is connected. What is unknown is left out.
type Device struct {
	ID             string            `json:"id"`
	Type           string            `json:"type,omitempty"`
	Tags           []string          `json:"tags" nullable:"false"`
	Attributes     map[string]string `json:"attributes"`
	Enabled        bool              `json:"enabled"`
	Created        time.Time         `json:"created"`
	Online         bool              `json:"online"`
	Transport      string            `json:"transport,omitempty" doc:"wss, mqtt, mqtt+wss or bridge:NAME"`
	Remote         string            `json:"remote,omitempty" doc:"Address and port it connected from"`
	ConnectedAt    time.Time         `json:"connected_at,omitzero"`
	LastSeen       time.Time         `json:"last_seen,omitzero"`
	DisconnectedAt time.Time         `json:"disconnected_at,omitzero"`
	Cause          string            `json:"cause,omitempty" doc:"Why the last connection ended"`
	Firmware       string            `json:"firmware,omitempty"`
	Model          string            `json:"model,omitempty"`
	Methods        []string          `json:"methods,omitempty" doc:"What its last hello announced that it does; {id}/methods also says what its type knows"`
	ClockOffsetMs  *int64            `json:"clock_offset_ms,omitempty" doc:"How far the device's clock is ahead of the hub's (negative: behind), from the time in its last hello; readings are not moved by it"`
	Version        uint64            `json:"version,omitempty" doc:"Of the last change of its connection; those of the live stream's presence compare with it"`
	Boot           string            `json:"boot,omitempty" doc:"The first that its connection named"`
	Frozen         *devices.Freeze   `json:"frozen,omitempty" doc:"Several devices used its identity and displaced each other: nobody is let in by it, until its time is over or POST {id}/unfreeze"`
	Unresponsive   time.Time         `json:"unresponsive_since,omitzero" doc:"It shows signs of life, but its program has said nothing since then and did not answer hub.probe in time; any frame ends that"`
	Silence        *Silence          `json:"silence,omitempty" doc:"What was learned of its network"`
	Units          map[string]string `json:"units,omitempty" doc:"By field, as the device last said them in SenML, else as its type has them"`
	Limits         map[string]Limit  `json:"limits,omitempty" doc:"Of one device, not in lists. By name: messages and bytes (a second), burst_ms (so much time's worth of both may come at once), max_frame (bytes), fields, connects (a minute)"`
	Slowed         *Slowed           `json:"slowed,omitempty" doc:"Of one device, not in lists: what its limits have cost it since the hub's start; left out: nothing"`
	Enrolled       *EnrolledView     `json:"enrolled,omitempty" doc:"By which enrolment key it came"`
	Admitted       *AdmittedView     `json:"admitted,omitempty" doc:"How it came, where a bridge had seen it first"`
	Measurement    string            `json:"measurement" doc:"Its home: where its readings are looked for when nobody names a measurement"`
	Latest         map[string]Value  `json:"latest,omitempty" doc:"By field, of its home; only with latest=true"`
}

// view joins what the registry and the sessions know.
func (s *Server) view(d devices.Device) Device {
	p := s.deps.Sessions.Presence(d.ID)
	v := Device{
		ID: d.ID, Type: d.Type, Tags: d.Tags, Attributes: d.Attributes, Enabled: d.Enabled, Created: d.Created,
		Online: p.Online, Transport: p.Transport, Remote: p.Remote, ConnectedAt: p.ConnectedAt, LastSeen: p.LastSeen,
		DisconnectedAt: p.DisconnectedAt, Cause: p.Cause, Firmware: p.Firmware, Model: p.Model, Methods: p.Methods,
		Units: s.units(d), Measurement: s.home(d), Enrolled: viewEnrolled(d), Admitted: viewAdmitted(d),
	}
	if d.Enrolled != nil { // what it said then, until a session knows better
		v.Model, v.Firmware = cmp.Or(v.Model, d.Enrolled.Model), cmp.Or(v.Firmware, d.Enrolled.Firmware)
	}
	if d.Admitted != nil {
		v.Model, v.Firmware = cmp.Or(v.Model, d.Admitted.Model), cmp.Or(v.Firmware, d.Admitted.Firmware)
	}
	s.viewLife(&v, p)
	if !p.ClockAt.IsZero() {
		v.ClockOffsetMs = &p.ClockOffsetMs
	}
	if v.Tags == nil {
		v.Tags = []string{}
	}
	if v.Attributes == nil {
		v.Attributes = map[string]string{}
	}
	return v
}

// DevicePath is the part of a path that names a device.
type DevicePath struct {
	ID string `path:"id" doc:"The device's id"`
}

// find returns the registered device, or the error that says there is none.
func (s *Server) find(id string) (devices.Device, error) {
	d, ok := s.deps.Registry.Get(id)
	if !ok {
		return d, noDevice(id)
	}
	return d, nil
}

func noDevice(id string) *Problem {
	return newProblem(http.StatusNotFound, "device_not_found", "there is no device %q", clip(id))
}

type listDevicesInput struct {
	Q      string `query:"q" maxLength:"256" doc:"Part of an id, type or tag; upper and lower case are the same"`
	Tag    string `query:"tag" maxLength:"256" doc:"A whole tag"`
	Online string `query:"online" enum:"true,false"`
	Latest bool   `query:"latest" doc:"Fill in latest"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

type listDevicesOutput struct {
	Body struct {
		Devices []Device `json:"devices" nullable:"false"`
		Next    string   `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

type deviceOutput struct {
	Body Device
}

func (s *Server) registerDevices() {
	tags := []string{"devices"}
	register(s, viewer, huma.Operation{
		OperationID: "list-devices", Method: http.MethodGet, Path: "/api/v1/devices", Tags: tags, Summary: "List devices, by id",
	}, s.listDevices)
	register(s, viewer, huma.Operation{
		OperationID: "get-device", Method: http.MethodGet, Path: "/api/v1/devices/{id}", Tags: tags, Summary: "One device",
	}, func(_ context.Context, in *DevicePath) (*deviceOutput, error) {
		d, err := s.find(in.ID)
		return &deviceOutput{Body: s.whole(d)}, err
	})
	register(s, admin, huma.Operation{
		OperationID: "create-device", Method: http.MethodPost, Path: "/api/v1/devices", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Add a device", Description: "The token is shown this once.",
	}, s.createDevice)
	register(s, admin, huma.Operation{
		OperationID: "change-device", Method: http.MethodPatch, Path: "/api/v1/devices/{id}", Tags: tags, Summary: "Change a device",
		Description: "Members that are left out stay. tags are replaced as a whole; attributes and limits are merged (RFC 7396): null removes one. Limits hold at once, also for a device that is connected. enabled=false ends the device's connection and its open commands: cancelled or, if sent, unknown.",
	}, s.changeDevice)
	register(s, admin, huma.Operation{
		OperationID: "delete-device", Method: http.MethodDelete, Path: "/api/v1/devices/{id}", Tags: tags, Summary: "Remove a device",
		Description: "Its connection ends, its token is void, its open commands are cancelled or, if sent, unknown, and its state is removed. Its readings stay; the answer says so.",
	}, s.deleteDevice)
}

// latestTimeout bounds how long a whole list waits for the store to say what it had before this start; what it has not
// said by then is left out.
const latestTimeout = 2 * time.Second

func (s *Server) listDevices(ctx context.Context, in *listDevicesInput) (*listDevicesOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, latestTimeout)
	defer cancel()
	all := s.deps.Registry.List()
	if in.Cursor != "" {
		after, ok := openCursor(in.Cursor)
		if !ok {
			return nil, badQuery("cursor", in.Cursor, "not a cursor; pass on what next said")
		}
		all = all[sort.Search(len(all), func(i int) bool { return all[i].ID > after }):]
	}
	q := strings.ToLower(in.Q)
	out := &listDevicesOutput{}
	out.Body.Devices = []Device{}
	scope := exchangeOf(ctx).operator.Scope
	for _, d := range all {
		if !scope.Includes(d.Tags) || in.Tag != "" && !slices.Contains(d.Tags, in.Tag) || !matches(d, q) {
			continue
		}
		v := s.view(d)
		if in.Online != "" && v.Online != (in.Online == "true") {
			continue
		}
		if len(out.Body.Devices) == in.Limit {
			out.Body.Next = makeCursor(out.Body.Devices[in.Limit-1].ID)
			break
		}
		if in.Latest {
			v.Latest = s.deps.Ingest.Latest(ctx, d.ID)
		}
		out.Body.Devices = append(out.Body.Devices, v)
	}
	return out, nil
}

// matches reports whether q, in lower case, is part of the device's id, type or a tag.
func matches(d devices.Device, q string) bool {
	return q == "" || strings.Contains(strings.ToLower(d.ID), q) || strings.Contains(strings.ToLower(d.Type), q) ||
		slices.ContainsFunc(d.Tags, func(tag string) bool { return strings.Contains(strings.ToLower(tag), q) })
}

// A cursor of devices is the last id that was shown, so that pages stay right while devices come and go.
func makeCursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte("d" + id)) }

func openCursor(cursor string) (id string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	return strings.TrimPrefix(string(b), "d"), err == nil && len(b) > 1 && b[0] == 'd'
}
