package api

import (
	"fmt"
	"slices"
	"strings"

	"telemetryhub/commands"
	"telemetryhub/devices"
)

// bridgeTransport is what transports of bridges begin with; the bridge's name follows.
const bridgeTransport = "bridge:"

// bridgeLines says of a device behind an external broker how its bridge is, where that matters: nothing of it can be
// heard while the bridge has no broker.
func (s *Server) bridgeLines(d devices.Device, v Device) []string {
	name, bridged := strings.CutPrefix(v.Transport, bridgeTransport)
	if !bridged && v.Transport == "" && d.Admitted != nil { // it was not heard since it was admitted
		name, bridged = d.Admitted.Bridge, true
	}
	if !bridged {
		return nil
	}
	all := s.deps.Bridges.Bridges()
	i := slices.IndexFunc(all, func(b Bridge) bool { return b.Name == name })
	switch {
	case i < 0:
		return []string{fmt.Sprintf("It came by the bridge %s, which is not in the hub's configuration any more.", name)}
	case !all[i].Connected:
		return []string{fmt.Sprintf("The bridge %s has not been connected since %s: %s. None of the devices behind it can be heard or commanded: hubctl bridge show %s", name, shown(all[i].Since), all[i].Failure, name)}
	case all[i].Full:
		return []string{fmt.Sprintf("The bridge %s reads nothing at the moment: as many messages as may be wait for the journal. See /readyz.", name)}
	case v.Online:
		return nil
	}
	line := fmt.Sprintf("The bridge %s is connected: the device is silent, or the broker does not pass on what it publishes.", name)
	if all[i].Unmapped > 0 {
		line += fmt.Sprintf(" The bridge has refused %d messages on topics that nothing is known of; perhaps they are its own: hubctl bridge show %s", all[i].Unmapped, name)
	}
	return []string{line}
}

// unheard says of a command to a device behind a broker, which nobody has answered, what the hub knows of it and what not.
func unheard(transport, state string) string {
	if !strings.HasPrefix(transport, bridgeTransport) || state != string(commands.Unknown) {
		return ""
	}
	return ". The hub gave it to the broker and heard no answer: does the device subscribe to its command topic there, and publish its answers where the bridge listens?"
}
