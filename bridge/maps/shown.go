package maps

import (
	"encoding/json"
	"strings"

	"telemetryhub/wire"
)

// Shown is an outcome, or one reading of it, as people read it and as examples say it. Members that are empty are left
// out.
type Shown struct {
	Map         string            `json:"map,omitempty"`
	As          What              `json:"as"`
	Device      string            `json:"device"`
	Type        string            `json:"type,omitempty"`
	Label       string            `json:"label,omitempty"`
	Model       string            `json:"model,omitempty"`
	Firmware    string            `json:"firmware,omitempty"`
	Measurement string            `json:"measurement,omitempty"`
	Boot        string            `json:"boot,omitempty"`
	Seq         uint64            `json:"seq,omitempty"`
	TS          *int64            `json:"ts,omitempty"`     // ms since the epoch; none: the time of receipt
	AgeMs       *int64            `json:"age_ms,omitempty"` // before its receipt
	Values      map[string]any    `json:"values,omitempty"`
	Units       map[string]string `json:"units,omitempty"`
	Quarantined string            `json:"quarantined,omitempty"` // why the reading will not be stored
	State       json.RawMessage   `json:"state,omitempty"`
	Online      *bool             `json:"online,omitempty"`
	Method      string            `json:"method,omitempty"` // of the command that is answered
	Correlation string            `json:"correlation,omitempty"`
	Result      json.RawMessage   `json:"result,omitempty"`
	Error       json.RawMessage   `json:"error,omitempty"`
	Progress    bool              `json:"progress,omitempty"`
}

// Show returns what outcomes are, each reading by itself.
func Show(outcomes []Outcome) []Shown {
	var all []Shown
	for i := range outcomes {
		o := &outcomes[i]
		s := Shown{Map: o.Map, As: o.What, Device: o.Device, Type: o.Type, Label: o.Label, Model: o.Model, Firmware: o.Firmware}
		if o.Group != "" {
			s.Map = o.Group + "/" + o.Map
		}
		switch o.What {
		case Telemetry, Event:
			all = append(all, showReadings(s, o.Telemetry)...)
			continue
		case State, Announce:
			s.State = append(json.RawMessage(nil), o.State...)
		case Presence:
			online := o.Online
			s.Online = &online
		case Answered:
			s.Method, s.Correlation, s.Result, s.Error, s.Progress = o.Reply.Method, o.Reply.Correlation, o.Reply.Result, o.Reply.Fault, o.Reply.Progress
		}
		all = append(all, s)
	}
	return all
}

func showReadings(of Shown, t *wire.Telemetry) []Shown {
	var all []Shown
	of.Measurement, of.Boot = string(t.Measurement), string(t.Boot)
	for i, r := range t.Readings {
		s := of
		if t.Seq > 0 {
			s.Seq = t.Seq + uint64(i)
		}
		at := r.Time
		switch r.Clock {
		case wire.ClockGiven:
			s.TS = &at
		case wire.ClockAge:
			s.AgeMs = &at
		}
		if s.Quarantined = r.Flaw; r.Flaw != "" {
			s.Quarantined += ": " + strings.ToValidUTF8(clip(r.Raw), "")
		}
		for _, f := range r.Fields {
			if s.Values == nil {
				s.Values = map[string]any{}
			}
			s.Values[string(f.Name)] = fieldValue(f)
		}
		for _, u := range t.Units {
			if s.Units == nil {
				s.Units = map[string]string{}
			}
			s.Units[string(u.Field)] = string(u.Symbol)
		}
		all = append(all, s)
	}
	return all
}
