package api_test

import (
	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/commands"
	"telemetryhub/devices"
	"telemetryhub/feed"
)

// The interfaces are those of the real parts.
var (
	_ api.Operators                    = (*auth.Operators)(nil)
	_ api.Registry                     = (*devices.Registry)(nil)
	_ api.Sessions                     = (*devices.Sessions)(nil)
	_ api.Commands                     = (*commands.Service)(nil)
	_ api.Feed[devices.PresenceChange] = (*feed.Feed[devices.PresenceChange])(nil)
	_ api.Feed[commands.Command]       = (*feed.Feed[commands.Command])(nil)
)
