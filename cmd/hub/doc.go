// Command hub is the server: it reads the configuration, opens the parts, joins them through the small interfaces that
// each declares, and stops them again. What a part does is in its own package.
//
// Exit status: 0 after a stop that was asked for, 1 when something could not be opened or failed, 2 when the command
// line or the configuration is wrong.
//
// Files in reading order: main.go (process), hub.go (what is opened, in which order), folder.go (the data folder),
// sockets.go, handshakes.go and admission.go (what stands before the ports), certificates.go (TLS), http.go (the one port), chunked.go, adapters.go, profiles.go (what holds for a type), rollouts.go, quarantine.go, replays.go, types.go, bridges.go, discovery.go (between the packages' interfaces), metrics.go and admission_metrics.go, processors.go, lifecycle.go (stopping),
// config.go and its siblings (configuration).
package main
