// Package rollouts owns commands to many devices. A rollout is one command and a list of devices that is fixed when the
// rollout is made; it is sent in waves, with a pause between them, and a limit of failures stops it. Each device gets an
// ordinary command of the ledger, so that whatever holds for one holds for many.
//
// It does not own the commands' states (package commands does), nor who the devices are: a [Fleet] tells. Devices that
// are added or tagged later are not included.
//
// # How a rollout lives
//
// [Service.Create] resolves the selector, asks the ledger for each device whether it would take the command, and writes
// the devices, the plan and the head, in this order: without a head there is no rollout. One goroutine drives each open
// rollout: it decides under the lock what may be sent, and is the only one that writes the rollout's records. What
// became of the devices is noted in shards of some hundred, twice a second at most, so that a rollout of 10,000 devices
// costs some hundred writes beside the ledger's own.
//
// No device gets the command twice: its Idempotency-Key is made of the rollout's id, and after a crash the ledger is
// asked for that key before anything else is decided. The ledger is the truth; the notes can be behind it, and are
// brought up to it at the start, when the feed of changes lost some, and when a late answer comes.
//
// A rollout is running, paused by an operator, or stopped by its limit of failures; it is done when each device has its
// outcome, and cancelled when an operator ended it: then the rest is not sent, and what is queued is cancelled.
//
// # Overload
//
// At most [MaxOpen] rollouts with [MaxDevices] devices are open; more are refused with a [*BusyError]. A rollout has at
// most Config.Open commands at its devices at a time, and all rollouts together leave the ledger half of its room: beyond
// that they wait, and say so. The newest [MaxKept] rollouts that have ended are kept. A slow reader of the feed loses
// views and is told how many.
//
// Files in reading order: rollout.go (the words), selector.go, amount.go, request.go (what is asked for), errors.go,
// service.go (Open, Close), create.go, drive.go (what happens next), wave.go, send.go, outcome.go (counts and limits),
// control.go (pause, resume, cancel), record.go (the bucket), load.go (what a start finds), view.go, feed.go, sweep.go.
package rollouts
