// Command bench measures the hub as its users run it: the built hub and the built device-sim as processes of their own,
// over TLS on loopback, with the durable journal on a real disk. `make bench` builds both and runs it.
//
//	go run ./bench [-runs 3] [-quick] [-only name,...] [-list] [-bin bin] [-dir folder]
//
// Standard output is one JSON object a figure: name, value (the median of the runs), unit, runs, spread (min, max),
// load_average (one minute's, before and after) and ran (what was run). Progress is told on standard error. docs/performance.md
// explains the figures and keeps a table of them.
//
// How it measures: processor time is utime + stime of /proc/PID/stat of the hub's process alone, between two instants after
// a warm-up; readings are those that the hub's own account (/api/v1/audit) counts between the same instants; memory is VmRSS
// of /proc/PID/status once it has settled. Each run has a new hub on a new folder. A run that was meant to saturate the hub and did
// not, or in which a device or a command got lost, is no figure but an error.
//
// It owns no part of the product and changes nothing outside its temporary folder; it ends the processes that it started, and no others.
// It needs Linux, as it reads /proc.
//
// Files: main.go (flags, the order of things), parts.go (what is measured), saturate.go, latency.go and idle.go (the
// three kinds of measurement), mqtt.go (MQTT beside the hub's own protocol), hub.go, sim.go, influx.go and child.go (the processes), proc.go (what /proc says),
// figure.go (medians and output), wait.go (waiting), system_linux.go and system_other.go (what only Linux has).
package main
