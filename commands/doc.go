// Package commands owns the command ledger: what an operator asked of a device, when, who asked, every change of the
// command's state with its cause, and how it ended. A command is durable before it is sent and before the operator is
// answered, and it ends in one of six words: done, failed, rejected, expired, cancelled or unknown.
//
// It does not own the connection (a [Router] says who is connected and sends), the REST shapes, or the rights of the
// operator. Commands to a device that is not connected are refused; nothing is queued for it.
//
// # How a command lives
//
// [Service.Send] writes one record that holds both accepted and sent, waits until it is on disk, and only then gives
// the command to the Router: a crash between the two leaves "sent", which the next start turns into unknown. The
// device's answer, its progress and the end of its connection come in by [Service.Answered], [Service.Progressed],
// [Service.Expired], [Service.SessionEnded] and [Service.SessionReady]. They change the ledger in memory and return: they never wait for
// the disk and never call the Router, so the caller may hold its own locks. Writers then put the change into the
// bucket, and only what is durable is shown: by Get, List, Wait and the feed.
//
// At-most-once commands are sent once. When the connection ends, or no answer comes in time, they are unknown.
// At-least-once commands are sent again with the same id when no answer came in time and whenever the device is
// ready again, until they are answered or expired.
//
// An answer is fenced by the device and by the command's id, which is never used twice. One that comes on another
// connection than the command was sent on, or after the ledger had given up (unknown, or expired after a sending), is
// still the truth about the command: it becomes the outcome and is marked late. A second answer changes nothing.
//
// # Overload
//
// At most [MaxOpen] commands are open or unsaved; beyond it Send refuses with a [*BusyError]. The mirror of the bucket in memory
// holds every open command and the newest ended ones, up to about [MirrorBytes]; older ones are read from the bucket
// by id and are not listed. A result over [MaxResult] is not kept. A slow reader of the feed loses changes and is told how
// many. While the bucket cannot be written, changes wait in memory, one per command, and are written when it can.
//
// Files in reading order: command.go (the words), transitions.go (which change is legal), id.go, config.go, errors.go,
// service.go (Open, Close), recover.go (what a start finds), catalogue.go (what devices take), send.go, secrets.go (what
// people see), hooks.go (what devices tell), alarm.go (timeouts and sending again), writer.go (memory to bucket), abandon.go (deleted devices), mirror.go (Get, List, Wait), keys.go (idempotency),
// feed.go, sweep.go (old commands).
package commands
