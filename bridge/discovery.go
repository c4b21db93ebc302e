package bridge

import (
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
)

// Discovery is told of devices that are not in the registry; discovery.List is one.
type Discovery interface {
	// Seen may admit the device, which takes a write to disk, and reports whether it is in the registry by now.
	Seen(s discovery.Sighting) (admitted bool)
}

// find returns the device of a message, or that a message is about. One that is not in the registry is told to
// discovery, which may admit it: then the message counts. It is not called in a goroutine of paho's.
func (h Hub) find(s discovery.Sighting) (d devices.Device, ok bool) {
	if d, ok = h.Registry.Get(s.Device); ok || h.Discovery == nil || !h.Discovery.Seen(s) {
		return d, ok
	}
	return h.Registry.Get(s.Device)
}
