package main

import (
	"time"

	"telemetryhub/api"
	"telemetryhub/bridge"
	"telemetryhub/bridge/maps"
)

// bridgesAPI is the bridges as the API asks for them.
type bridgesAPI struct{ h *hub }

// Bridges implements api.Bridges.
func (b bridgesAPI) Bridges() []api.Bridge {
	all := []api.Bridge{bridgeView(b.h.broker.Numbers())}
	for _, external := range b.h.externals {
		all = append(all, bridgeView(external.Numbers()))
	}
	return all
}

// Try implements api.Bridges.
func (b bridgesAPI) Try(name, topic string, payload []byte, retained bool) (api.TriedMessage, bool) {
	m := maps.Message{Topic: topic, Payload: payload, Retained: retained}
	if name == bridge.EmbeddedName {
		return triedView(b.h.broker.Try(m)), true
	}
	for _, external := range b.h.externals {
		if external.Name() == name {
			return triedView(external.Try(m)), true
		}
	}
	return api.TriedMessage{}, false
}

func triedView(t bridge.Trial) api.TriedMessage {
	v := api.TriedMessage{Passed: t.Passed, Reason: t.Reason, Message: t.Message}
	for _, o := range t.Outcomes {
		v.Outcomes = append(v.Outcomes, api.TriedOutcome{
			Map: o.Map, As: string(o.As), Device: o.Device, Registered: o.Registered, Type: o.Type, Label: o.Label, Model: o.Model, Firmware: o.Firmware,
			Measurement: o.Measurement, Boot: o.Boot, Seq: o.Seq, TS: o.TS, AgeMs: o.AgeMs, Values: o.Values, Units: o.Units, Quarantined: o.Quarantined,
			State: o.State, Online: o.Online, Method: o.Method, Correlation: o.Correlation, Result: o.Result, Error: o.Error, Progress: o.Progress,
			Reason: o.Reason, Message: o.Message,
		})
	}
	return v
}

func bridgeView(n bridge.Numbers) api.Bridge {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	v := api.Bridge{
		Name: n.Name, Kind: "external", Address: n.Address, Connected: n.Connected, Since: n.Since, Failure: n.Failure, LastFailure: n.LastFailure, Full: n.Full,
		Received: n.Received, Stored: n.Readings, Unmapped: n.Unmapped(), Refused: n.Refused, Redelivered: n.Redelivered, Commands: n.Commands,
		Devices: n.Devices, InFlight: n.InFlight, PerSecond: n.Pace.PerSecond, LagMs: n.Pace.Lag.Milliseconds(),
		AckMs: api.AckMs{P50: ms(n.Pace.Ack50), P99: ms(n.Pace.Ack99), Max: ms(n.Pace.AckMax)},
	}
	if n.Embedded {
		v.Kind = "embedded"
	} else if n.Connects > 1 {
		v.Reconnects = n.Connects - 1
	}
	for _, e := range n.Examples {
		m := api.ShownMessage(e.At, e.Topic, e.Payload, e.Size)
		m.Device, m.Reason, m.Message = e.Device, e.Reason, e.Message
		v.Examples = append(v.Examples, m)
	}
	return v
}
