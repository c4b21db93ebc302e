package api_test

import (
	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/commands"
	"telemetryhub/devices"
)

// The interfaces are those of the real parts.
var (
	_ api.Operators                    = (*auth.Operators)(nil)
	_ api.Registry                     = (*devices.Registry)(nil)
	_ api.Sessions                     = (*devices.Sessions)(nil)
	_ api.Commands                     = (*commands.Service)(nil)
	_ api.Feed[devices.PresenceChange] = (*devices.PresenceFeed)(nil)
	_ api.Feed[commands.Command]       = (*commands.Feed)(nil)
)
