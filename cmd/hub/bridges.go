package main

import (
	"time"

	"telemetryhub/api"
	"telemetryhub/bridge"
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
