// Command torture runs the real programs, hurts them, and says whether a reading was lost or doubled.
//
//	torture [-quick] [-only FAULT,...] [-rounds N] [-mixed 1h] [-race] [-bin bin]
//
// Each fault is played on a hub of its own, a process with a data folder of its own, while device-sim --verify sends
// readings and, at the end, reads all of them back; that is the judge. Then the hub's own account is held against it:
// received = stored + duplicate + quarantined + queued + refused, for each device, with as many stored as were found.
// And each fault has to show that it happened at all: processes that died, answers that the proxy gave, a disk that was
// full. One line a fault goes to standard output:
//
//	fault=NAME sent=N acked=N stored=N lost=0 doubled=0 KEY=VALUE...
//
// A line that is not good ends with failed="why". lost is what was acknowledged and is neither stored nor named by the
// account: a reading that the database rejected is in the quarantine, one in a damaged part of the journal is counted as
// damaged. Exit status 1: something is not 0, does not add up, or did not happen.
//
// What it does not do: simulate any part of the product. InfluxDB is a real one (store/influxtest), with a proxy of ours
// in front where it has to misbehave. Everything is on 127.0.0.1. Children die with this process. Some faults mount a
// file system (tmpfs, torture/forgetfs) and need root; without it they are left out with a word on standard error, or,
// with CI=true, fail.
//
// Rule for overload: faults run one after the other, each within a time limit.
//
// Files: main.go (flags, the list of faults), scene.go (one fault's folder, hub and verdict), outcome.go (its line),
// hub.go, sim.go and child.go (the processes), proxy.go (what stands before InfluxDB), mount_linux.go; the faults:
// kill.go, away.go, misbehave.go, full.go, flip.go, power.go, devices.go, herd.go (with network.go, which can be cut), commands.go, bridge.go (with mosquitto.go), backlog.go, mixed.go.
package main
