package main

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"telemetryhub/devices"
)

const (
	// admissionsPerProcessor is how many devices a second a processor lets in by default. One costs 0.6 ms, and what it
	// says first costs some more: three quarters of the processors are left to the devices that are there.
	admissionsPerProcessor = 400

	// Files that the process may open and that are not for devices: those of the journal and the embedded store, and a
	// share of sockets for operators, the store and connections that are not devices yet.
	filesOfHub     = 1024
	shareOfOthers  = 20 // one in so many
	fewestOfOthers = 64
	// unlimitedFiles stands for the limit where there is none, or none is known.
	unlimitedFiles = 1 << 20
)

// openAdmission comes before the parts that let devices in.
func (h *hub) openAdmission(context.Context) error {
	d := h.cfg.Devices
	devicesMost, others := connectionsWithin(openFiles())
	if d.MaxConnections > devicesMost {
		h.log.Warn("devices.max_connections is more than the process may open", "key", d.MaxConnections, "connections", devicesMost)
	} else if d.MaxConnections > 0 {
		devicesMost = d.MaxConnections
	}
	rate := d.ConnectRate
	if rate == 0 {
		rate = admissionsPerProcessor * runtime.GOMAXPROCS(0)
	}
	h.admission = devices.NewAdmission(devices.AdmissionConfig{Rate: float64(rate), Connections: devicesMost})
	h.sockets = newSockets(devicesMost + others)
	// Half of the time: in the other half the client answers.
	h.handshakes = newHandshakes(d.MaxHandshakes, d.HandshakeTimeout/2)
	return nil
}

// bounded bounds the sockets of l, and the TLS handshakes on them.
func (h *hub) bounded(l net.Listener) net.Listener {
	return h.handshakes.listener(h.sockets.listener(l))
}

// connectionsWithin divides the files that the process may open.
func connectionsWithin(files int) (devicesMost, others int) {
	sockets := files - min(filesOfHub, files/4)
	others = max(fewestOfOthers, sockets/shareOfOthers)
	return max(1, sockets-others), others
}

// stopAdmission is the first act of the hub's stop: whoever comes from now on, and whoever is there, gets a slot for coming back.
func (h *hub) stopAdmission(context.Context) error {
	before := h.admission.Stats()
	h.admission.Stop()
	h.log.Info("devices are told when to come back", "devices", before.Connections, "within", fmt.Sprintf("%.0fs", h.admission.Stats().Return.Seconds()))
	return nil
}
