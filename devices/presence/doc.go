// Package presence tells others that devices came and went: as readings, which are stored as any other, and as a webhook.
//
// It does not own who is connected (package devices does), nor what becomes of a reading. A [Follower] takes the changes
// from the sessions' feed and gives them in batches to a [Teller], of which there are two: [Readings] and [Webhook].
//
// # What is promised
//
// Of each device every change is told in the order of its versions, at least once. A change is told once it is in the
// presence bucket: so whatever was told is known after a crash, and a device that was told to be online, and whose hub
// was killed, is told to be offline at the next start. How far the telling has come is written a few times a second at most; at the
// start, the newest change of each device that is beyond it is told (with a new receiver, that of every device).
//
// # Overload
//
// Nothing here makes a connection wait: the feed drops what it has no room for. The queue is bounded; when it is full the
// oldest changes are dropped, counted, and said to the receiver and in the log. When the receiver takes changes again and
// the queue is empty, the newest change of each device that was affected is told: what is lost is what lay between.
//
// Files in reading order: change.go, follower.go, queue.go, told.go, webhook.go, sign.go, readings.go, metrics.go.
package presence
