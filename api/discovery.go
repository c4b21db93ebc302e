package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
)

// Discovery is the devices that bridges have seen and that are not in the registry; discovery.List is it.
type Discovery interface {
	All() []discovery.Seen // sorted by device
	Get(device string) (discovery.Seen, bool)
	Admit(ctx context.Context, device string, a discovery.Admission) (devices.Device, error)
	Forget(device string) error

	IgnoredDevices
}

// IgnoredDevices are those that operators do not want to see; discovery.List knows them.
type IgnoredDevices interface {
	Ignored() []discovery.Ignored // sorted by device
	Ignore(ctx context.Context, device, by string) (discovery.Ignored, error)
	Notice(ctx context.Context, device string) error
}

// Discovered is a device that a bridge has seen and that is not in the registry.
type Discovered struct {
	ID            string    `json:"id"`
	Bridge        string    `json:"bridge" doc:"That saw it last"`
	Topic         string    `json:"topic" doc:"Of its last message, cut at 512 bytes"`
	Payload       string    `json:"payload,omitempty" doc:"Of its last message, cut at 4 KiB, where that is text"`
	PayloadBase64 string    `json:"payload_base64,omitempty" doc:"The same, where it is not"`
	Size          int       `json:"size" doc:"Of the payload before it was cut, in bytes"`
	Retained      bool      `json:"retained,omitempty" doc:"The broker had kept the message from some time before"`
	Announced     bool      `json:"announced,omitempty" doc:"The message is about the device, not of it"`
	Type          string    `json:"type,omitempty" doc:"That it gets unless it is admitted as another"`
	Name          string    `json:"name,omitempty" doc:"Becomes the attribute name"`
	Model         string    `json:"model,omitempty"`
	Firmware      string    `json:"firmware,omitempty"`
	First         time.Time `json:"first" doc:"When it was seen, since the hub's start"`
	Last          time.Time `json:"last"`
	Count         uint64    `json:"count" doc:"Messages"`
	Held          string    `json:"held,omitempty" doc:"Why the rule that is for it has not admitted it"`
}

// AdmittedView says how a device came to the registry that a bridge had seen.
type AdmittedView struct {
	Bridge string    `json:"bridge"`
	Rule   string    `json:"rule,omitempty" doc:"Of the configuration, that let it in; left out: an operator did"`
	By     string    `json:"by,omitempty" doc:"The operator"`
	At     time.Time `json:"at"`
}

func viewAdmitted(d devices.Device) *AdmittedView {
	if d.Admitted == nil {
		return nil
	}
	return &AdmittedView{Bridge: d.Admitted.Bridge, Rule: d.Admitted.Rule, By: d.Admitted.By, At: d.Admitted.At}
}

func viewDiscovered(e discovery.Seen) Discovered {
	d := Discovered{
		ID: e.Device, Bridge: e.Bridge, Topic: e.Topic, Size: e.Size, Retained: e.Retained, Announced: e.Announced, Type: e.Type,
		Name: e.Name, Model: e.Model, Firmware: e.Firmware, First: e.First, Last: e.At, Count: e.Count, Held: e.Held,
	}
	d.Payload, d.PayloadBase64 = shownPayload(e.Payload, e.Size)
	return d
}

// shownPayload returns a payload as text or, where it is none, in base64. size is what it was before it was cut, which may
// have been within a character.
func shownPayload(payload []byte, size int) (text, encoded string) {
	whole := payload
	for i := 0; size > len(payload) && i < utf8.UTFMax-1 && !utf8.Valid(whole) && len(whole) > 0; i++ {
		whole = whole[:len(whole)-1]
	}
	if utf8.Valid(whole) && !slices.Contains(whole, 0) {
		return string(whole), ""
	}
	return "", base64.StdEncoding.EncodeToString(payload)
}

type listDiscoveredInput struct {
	Q      string `query:"q" maxLength:"256" doc:"Part of an id, name, type or model; upper and lower case are the same"`
	Bridge string `query:"bridge" maxLength:"64" doc:"Only what this bridge saw last"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

type listDiscoveredOutput struct {
	Body struct {
		Devices []Discovered `json:"devices" nullable:"false"`
		Next    string       `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

// DiscoveredPath is the part of a path that names a device that need not be in the registry.
type DiscoveredPath struct {
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"The device's id"`
}

type discoveredOutput struct{ Body Discovered }

type admitDeviceInput struct {
	DiscoveredPath
	Body struct {
		Type       string            `json:"type,omitempty" maxLength:"128" doc:"Left out: what was seen of it"`
		Tags       []string          `json:"tags,omitempty" nullable:"false" maxItems:"64"`
		Attributes map[string]string `json:"attributes,omitempty" doc:"Beside name, where that was seen"`
	}
}

type admitDeviceOutput struct {
	Location string `header:"Location"`
	Body     Device
}

type droppedOutput struct {
	Body struct {
		ID string `json:"id"`
	}
}

func (s *Server) registerDiscovery() {
	tags, path := []string{"bridges"}, "/api/v1/discovered"
	register(s, viewer, huma.Operation{
		OperationID: "list-discovered", Method: http.MethodGet, Path: path, Tags: tags, Summary: "List devices that bridges have seen and that are not registered, by id",
		Description: "With the last message of each. In memory, at most 1,000: the one that was not seen for the longest goes.",
	}, s.listDiscovered)
	register(s, viewer, huma.Operation{
		OperationID: "get-discovered", Method: http.MethodGet, Path: path + "/{id}", Tags: tags, Summary: "One of them",
	}, func(_ context.Context, in *DiscoveredPath) (*discoveredOutput, error) {
		e, ok := s.deps.Discovery.Get(in.ID)
		if !ok {
			return nil, discovery.ErrNotSeen
		}
		return &discoveredOutput{viewDiscovered(e)}, nil
	})
	register(s, admin, huma.Operation{
		OperationID: "admit-device", Method: http.MethodPost, Path: path + "/{id}/admit", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Admit a device that was seen",
		Description: "It is registered without a token: the broker vouches for it. Its next message counts; the one that was seen does not. Problems: 404 not_seen, 409 device_exists, device_ignored.",
	}, s.admitDevice)
	register(s, admin, huma.Operation{
		OperationID: "drop-discovered", Method: http.MethodDelete, Path: path + "/{id}", Tags: tags, Summary: "Take a device off the list until it is seen again",
	}, func(_ context.Context, in *DiscoveredPath) (*droppedOutput, error) {
		out := &droppedOutput{}
		out.Body.ID = in.ID
		return out, s.deps.Discovery.Forget(in.ID)
	})
	s.registerIgnored(tags)
}

func (s *Server) listDiscovered(_ context.Context, in *listDiscoveredInput) (*listDiscoveredOutput, error) {
	q := strings.ToLower(in.Q)
	all := slices.DeleteFunc(s.deps.Discovery.All(), func(e discovery.Seen) bool {
		found := strings.Contains(strings.ToLower(e.Device+"\x00"+e.Name+"\x00"+e.Type+"\x00"+e.Model), q)
		return !found || in.Bridge != "" && e.Bridge != in.Bridge
	})
	page, next, err := pageOf(all, in.Cursor, in.Limit, func(e discovery.Seen) string { return e.Device })
	if err != nil {
		return nil, err
	}
	out := &listDiscoveredOutput{}
	out.Body.Devices, out.Body.Next = []Discovered{}, next
	for _, e := range page {
		out.Body.Devices = append(out.Body.Devices, viewDiscovered(e))
	}
	return out, nil
}

// pageOf returns what comes after the cursor, of a list that is sorted by id, and the cursor of what comes after that.
func pageOf[T any](all []T, cursor string, limit int, id func(T) string) (page []T, next string, err error) {
	if cursor != "" {
		after, ok := openCursor(cursor)
		if !ok {
			return nil, "", badQuery("cursor", cursor, "not a cursor; pass on what next said")
		}
		at, found := slices.BinarySearchFunc(all, after, func(e T, id2 string) int { return cmp.Compare(id(e), id2) })
		if found {
			at++
		}
		all = all[at:]
	}
	if len(all) > limit {
		all = all[:limit]
		next = makeCursor(id(all[limit-1]))
	}
	return all, next, nil
}

func (s *Server) admitDevice(ctx context.Context, in *admitDeviceInput) (*admitDeviceOutput, error) {
	b := in.Body
	if b.Type != "" {
		note(ctx, "type", b.Type)
	}
	if len(b.Tags) > 0 {
		note(ctx, "tags", b.Tags)
	}
	d, err := s.deps.Discovery.Admit(ctx, in.ID, discovery.Admission{
		Type: b.Type, Tags: b.Tags, Attributes: b.Attributes, By: exchangeOf(ctx).operator.Name,
	})
	if err != nil {
		return nil, err
	}
	note(ctx, "bridge", d.Admitted.Bridge)
	return &admitDeviceOutput{Location: "/api/v1/devices/" + d.ID, Body: s.whole(d)}, nil
}

type listIgnoredInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

// IgnoredDevice is a device that is kept off the list, and that no rule admits.
type IgnoredDevice struct {
	ID string    `json:"id"`
	By string    `json:"by,omitempty"`
	At time.Time `json:"at"`
}

type listIgnoredOutput struct {
	Body struct {
		Devices []IgnoredDevice `json:"devices" nullable:"false"`
		Next    string          `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

type ignoredOutput struct{ Body IgnoredDevice }

func (s *Server) registerIgnored(tags []string) {
	path := "/api/v1/ignored-devices"
	register(s, viewer, huma.Operation{
		OperationID: "list-ignored", Method: http.MethodGet, Path: path, Tags: tags, Summary: "List devices that are kept off the list of those that were seen, by id",
	}, func(_ context.Context, in *listIgnoredInput) (*listIgnoredOutput, error) {
		page, next, err := pageOf(s.deps.Discovery.Ignored(), in.Cursor, in.Limit, func(i discovery.Ignored) string { return i.Device })
		out := &listIgnoredOutput{}
		out.Body.Devices, out.Body.Next = []IgnoredDevice{}, next
		for _, i := range page {
			out.Body.Devices = append(out.Body.Devices, IgnoredDevice{ID: i.Device, By: i.By, At: i.At})
		}
		return out, err
	})
	register(s, admin, huma.Operation{
		OperationID: "ignore-device", Method: http.MethodPut, Path: path + "/{id}", Tags: tags, Summary: "Keep a device off the list, whether or not it was seen",
		Description: "It stays so over restarts of the hub, and no rule admits it. One that is registered is not concerned until it is deleted. At most 10,000.",
	}, func(ctx context.Context, in *DiscoveredPath) (*ignoredOutput, error) {
		i, err := s.deps.Discovery.Ignore(ctx, in.ID, exchangeOf(ctx).operator.Name)
		return &ignoredOutput{IgnoredDevice{ID: i.Device, By: i.By, At: i.At}}, err
	})
	register(s, admin, huma.Operation{
		OperationID: "notice-device", Method: http.MethodDelete, Path: path + "/{id}", Tags: tags, Summary: "Let an ignored device be seen again",
	}, func(ctx context.Context, in *DiscoveredPath) (*droppedOutput, error) {
		out := &droppedOutput{}
		out.Body.ID = in.ID
		return out, s.deps.Discovery.Notice(ctx, in.ID)
	})
}

// whyNone says more of a device that is not registered, where a bridge has seen it or is not to see it.
func (s *Server) whyNone(ctx context.Context, id string, err error) error {
	if !exchangeOf(ctx).operator.Scope.All() {
		return err
	}
	if e, ok := s.deps.Discovery.Get(id); ok {
		held := ""
		if e.Held != "" {
			held = " (" + e.Held + ")"
		}
		return newProblem(http.StatusNotFound, "device_not_found", "there is no device %q, but bridge %s sees one, last at %s, on %s%s; to let it in: hubctl bridge admit %s", id, e.Bridge, shown(e.At), e.Topic, held, id)
	}
	ignored := s.deps.Discovery.Ignored()
	if slices.ContainsFunc(ignored, func(i discovery.Ignored) bool { return i.Device == id }) {
		return newProblem(http.StatusNotFound, "device_not_found", "there is no device %q, and it is ignored; to let it be seen again: hubctl bridge ignore --undo %s", id, id)
	}
	return err
}

// discoveryProblem turns an error of the list into its HTTP form; nil: it is none.
func discoveryProblem(err error) *Problem {
	switch {
	case errors.Is(err, discovery.ErrNotSeen):
		return newProblem(http.StatusNotFound, "not_seen", "no bridge has seen a device with this id since the hub's start, or it was taken off the list")
	case errors.Is(err, discovery.ErrIgnored):
		return newProblem(http.StatusConflict, "device_ignored", "%v; take it off the ignored devices first", err)
	case errors.Is(err, discovery.ErrNotIgnored):
		return newProblem(http.StatusNotFound, "not_ignored", "%v", err)
	case errors.Is(err, discovery.ErrTooManyIgnored):
		return newProblem(http.StatusConflict, "too_many_ignored", "%v", err).over(discovery.MaxIgnored, discovery.MaxIgnored)
	}
	return nil
}
