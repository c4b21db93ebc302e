package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/auth"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Why is what the hub can say of how a device fares on the line.
type Why struct {
	Device        string          `json:"device"`
	Online        bool            `json:"online"`
	Diagnosis     []string        `json:"diagnosis" nullable:"false" doc:"In plain words: how it is connected, when it last measured, what is wrong and what to do"`
	LastReading   time.Time       `json:"last_reading,omitzero" doc:"When the newest reading of the default measurement was measured"`
	ClockOffsetMs *int64          `json:"clock_offset_ms,omitempty" doc:"As in the device"`
	Events        []devices.Event `json:"events" nullable:"false" doc:"The newest first, at most 64; alike ones are one with their count. In memory since the hub's start"`
}

type whyOutput struct{ Body Why }

func (s *Server) registerWhy() {
	register(s, viewer, huma.Operation{
		OperationID: "why-device", Method: http.MethodGet, Path: "/api/v1/devices/{id}/why", Tags: []string{"devices"}, Summary: "Why a device is as it is",
		Description: "What befell it on the line: connections, their ends and refusals, limits, quarantined readings, gaps, slow commits, commands that went wrong. It begins with a diagnosis. Events are of this hub since its start.",
	}, s.why)
}

func (s *Server) why(ctx context.Context, in *DevicePath) (*whyOutput, error) {
	d, err := s.find(in.ID)
	if err != nil {
		return nil, s.whyNone(ctx, in.ID, err)
	}
	v := s.whole(d)
	out := &whyOutput{Body: Why{Device: d.ID, Online: v.Online, ClockOffsetMs: v.ClockOffsetMs, Events: s.deps.Sessions.Events(d.ID)}}
	if out.Body.Events == nil {
		out.Body.Events = []devices.Event{}
	}
	ctx, cancel := context.WithTimeout(ctx, latestTimeout)
	defer cancel()
	for _, value := range s.deps.Ingest.Latest(ctx, d.ID) {
		if at := time.UnixMilli(value.TS).UTC(); at.After(out.Body.LastReading) {
			out.Body.LastReading = at
		}
	}
	lines := append(diagnose(v, &out.Body, time.Now()), s.unitLines(d)...)
	out.Body.Diagnosis = slices.Insert(lines, 1, s.bridgeLines(d, v)...) // after how it is connected
	return out, nil
}

// recent is how old an event may be and still be part of what is wrong now.
const recent = 10 * time.Minute

// clockOff is how far a device's clock may be off and go without mention.
const clockOff = 5 * time.Second

// diagnose says in plain words how the device is, what is wrong now and what to do about it.
func diagnose(v Device, w *Why, now time.Time) []string {
	lines := []string{presenceLine(v), readingLine(w.LastReading, now)}
	if !v.Unresponsive.IsZero() {
		lines = append(lines, fmt.Sprintf("Its program has said nothing since %s and did not answer hub.probe, though it shows signs of life: restart it.", shown(v.Unresponsive)))
	}
	if s := v.Silence; s != nil && s.Losses > 0 {
		lines = append(lines, fmt.Sprintf("Its connection was lost without a word after %d s of silence (%d times in a row; longest survived: %d s): what is between may forget silent connections.", s.Lost, s.Losses, s.Survived))
	}
	if v.Frozen != nil {
		lines = append(lines, frozenLine(v.ID, v.Frozen))
	}
	if !v.Enabled {
		lines = append(lines, "It is disabled: hubctl devices set "+v.ID+" --enable")
	}
	if v.Slowed != nil && now.Sub(v.Slowed.Last) <= recent {
		lines = append(lines, slowedLine(v.ID, v.Slowed))
	}
	if ms := w.ClockOffsetMs; ms != nil {
		if off := time.Duration(*ms) * time.Millisecond; off > clockOff {
			lines = append(lines, fmt.Sprintf("Its clock is %s ahead of the hub's: set it, as readings bear its times.", off))
		} else if off < -clockOff {
			lines = append(lines, fmt.Sprintf("Its clock is %s behind the hub's: set it, as readings bear its times.", -off))
		}
	}
	for _, e := range w.Events {
		if now.Sub(e.Last) > recent || e.Kind == devices.EventRefused && v.Online && v.ConnectedAt.After(e.Last) {
			continue
		}
		if line := faultLine(v.ID, v.Transport, e); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func presenceLine(v Device) string {
	switch {
	case v.Online:
		return fmt.Sprintf("Online by %s from %s since %s; last sign of life %s.", v.Transport, v.Remote, shown(v.ConnectedAt), shown(v.LastSeen))
	case v.DisconnectedAt.IsZero():
		return "Never connected."
	}
	return fmt.Sprintf("Offline since %s: %s.", shown(v.DisconnectedAt), v.Cause)
}

func frozenLine(device string, f *devices.Freeze) string {
	until := "until an operator ends it"
	if !f.Until.IsZero() {
		until = "until " + shown(f.Until)
	}
	return fmt.Sprintf("Frozen as a clone since %s, %s: %s. Give the right one a token of its own (hubctl devices token %s), then hubctl devices unfreeze %s", shown(f.Since), until, f.Describe(), device, device)
}

func slowedLine(device string, s *Slowed) string {
	return fmt.Sprintf("Its limits have held it for %s and refused %d posts and connections since the hub's start, the last time (%s) %s: hubctl devices show %s; more for this device: hubctl devices set %s --limit NAME=VALUE",
		(time.Duration(s.HeldMs) * time.Millisecond).Round(time.Millisecond), s.Refused, s.Limit, shown(s.Last), device, device)
}

func readingLine(at, now time.Time) string {
	if at.IsZero() {
		return "No reading of it is known."
	}
	return fmt.Sprintf("Its last reading was measured %s, %s ago.", shown(at), now.Sub(at).Round(time.Second))
}

func shown(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// faultLine says what an event means and what to do; "" for one that is no fault. transport is how the device is
// connected, or was.
func faultLine(device, transport string, e devices.Event) string {
	when := fmt.Sprintf("since %s (%d times, last %s)", shown(e.First), e.Count, shown(e.Last))
	switch e.Kind {
	case devices.EventRefused:
		return fmt.Sprintf("Connections from %s were refused with %d %s %s: %s%s", e.Remote, e.Status, e.Reason, when, e.Message, remedy(device, e.Reason))
	case devices.EventLimit:
		return fmt.Sprintf("It passed a limit (%s, limit %d, was %d) %s: %s", e.Reason, e.Limit, e.Value, when, e.Message)
	case devices.EventUnusable:
		return fmt.Sprintf("Frames were refused (%s) %s: %s", e.Reason, when, e.Message)
	case devices.EventQuarantine:
		return fmt.Sprintf("Readings went to the quarantine (%s) %s: hubctl quarantine ls --device %s", e.Reason, when, device)
	case devices.EventGap:
		return fmt.Sprintf("Readings never came %s: %s", when, e.Message)
	case devices.EventSlowCommit:
		return fmt.Sprintf("The journal was slow (limit %d ms, last %d ms) %s; see /readyz.", e.Limit, e.Value, when)
	case devices.EventCommand:
		return fmt.Sprintf("Commands ended as %s %s: %s", e.Reason, when, e.Message) + unheard(transport, e.Reason)
	case devices.EventClone:
		if e.Reason == "contested" {
			return fmt.Sprintf("Several devices use its identity %s: %s. hubctl devices token %s makes a token for the right one and voids the others'.", when, e.Message, device)
		}
	case devices.EventClose:
		if e.Status == wire.CloseReplaced && e.Count > 1 {
			return fmt.Sprintf("Connections replaced each other %s, %s: do two devices use one token?", when, e.Message)
		}
	}
	return ""
}

func remedy(device, reason string) string {
	switch reason {
	case "bad_credentials":
		return ". The token is wrong: hubctl devices token " + device
	case auth.CertificateExpired, auth.CertificateRevoked:
		return ". A new one: hubctl devices cert " + device
	case auth.CertificateUntrusted:
		return ". Is its authority, and each in between, in devices.certificates.ca_files?"
	case auth.CertificateNotYetValid:
		return ". Is this machine's clock right?"
	case "device_disabled", "disabled":
		return ". To let it in: hubctl devices set " + device + " --enable"
	}
	return ""
}

// refuseFrame counts a frame that could not be used and tells the device's recorder why.
func (s *Server) refuseFrame(ctx context.Context, device, reason string, err error) {
	s.deps.Ingest.Refuse(device, reason)
	p := s.problem(ctx, err)
	e := devices.Event{Kind: devices.EventUnusable, Reason: reason, Message: p.Detail}
	if p.Limit > 0 {
		e.Kind, e.Limit, e.Value = devices.EventLimit, p.Limit, p.Value
	}
	s.deps.Sessions.Note(device, e)
}

// noteDeviceRefused tells the flight recorder of the path's device, if there is one, that credentials were not taken.
func (s *Server) noteDeviceRefused(ctx context.Context, id string, err error) {
	if _, ok := s.deps.Registry.Get(id); !ok {
		return
	}
	p := s.problem(ctx, err)
	s.deps.Sessions.Note(id, devices.Event{
		Kind: devices.EventRefused, Reason: p.Reason, Message: "posting telemetry: " + p.Detail, Remote: exchangeOf(ctx).origin(), Status: p.Status,
	})
}
