// Package commands owns the command ledger: what an operator asked of a device, when, who asked, every change of the
// command's state with its cause, and how it ended. A command is durable before it is sent and before the operator is
// answered, and it ends in one of six words: done, failed, rejected, expired, cancelled or unknown.
//
// It does not own the connection (a [Router] sends), the REST shapes, or the rights of the operator.
//
// # How a command lives
//
// Each device has a lane: the commands that wait for it, and those that are out, never more than Config.Outstanding.
// [Service.Send] to a device that is ready and has nothing to do writes one record that holds both accepted and sent;
// any other command is accepted and queued in one record, and gets another, sent, when its turn comes. In both cases the
// Router is given the command only when the record that calls it sent is on disk: a crash between the two leaves "sent",
// which the next start turns into unknown or sends again. A device is ready from [Service.SessionReady] on, and what
// waits goes out in the order of the ids, which is that of the asking. What the Router surely did not send waits again.
//
// The device's answer, its progress and the end of its connection come in by [Service.Answered], [Service.Progressed]
// and [Service.SessionEnded]. They change the ledger in memory and return: they never wait for the disk and never call
// the Router, so the caller may hold its own locks. Writers then put the change into the bucket, those of many commands in
// one commit ([Batch]), and only what is durable is shown: by Get, List, Wait and the feed. What is to be sent is given to the Router by the writers, or by the one
// goroutine that also waits for what is due.
//
// At-most-once commands are sent once. When the connection ends, or no answer comes in time, they are unknown.
// At-least-once commands are sent again with the same id when no answer came in time and whenever the device is
// ready again, until they are answered, expired, or somebody asked to cancel them. They hold up those behind them.
//
// A command that waits is cancelled at once, also while its record is on the way. Of one that was sent the device is asked
// to give it up, and its answer decides.
//
// An answer is fenced by the device and by the command's id, which is never used twice. One that comes on another
// connection than the command was sent on, or after the ledger had given up (unknown, or expired after a sending), is
// still the truth about the command: it becomes the outcome and is marked late. A second answer changes nothing.
//
// # Overload
//
// At most Config.Queue commands wait for one device ([*QueueFullError] beyond it), and at most [MaxOpen] are open or
// unsaved, with [MaxOpenBytes] of params ([*BusyError]). The mirror of the bucket in memory
// holds every open command and the newest ended ones, up to about [MirrorBytes]; of [MaxArchived] older ones it holds what
// lists choose by, and the rest is read from the bucket. A result over [MaxResult] is not kept. A slow reader of the feed loses changes and is told how
// many. While the bucket cannot be written, changes wait in memory, one per command, and are written when it can.
//
// Files in reading order: command.go (the words), transitions.go (which change is legal), id.go, config.go, errors.go,
// service.go (Open, Close), recover.go (what a start finds), catalogue.go (what devices take), request.go, send.go,
// lane.go (whose turn it is), secrets.go (what people see), hooks.go (what devices tell), cancel.go, alarm.go (what is
// due), writer.go (memory to bucket), batch.go (many in one commit), abandon.go (deleted devices), mirror.go (Get, Wait), archive.go (List), keys.go (idempotency),
// feed.go, stats.go, sweep.go (old commands).
package commands
