// Package state owns what devices report of themselves and what operators desire of them (twin, shadow): one document a
// device, with a version that grows by one with each change, the time of each member, and the changes before.
//
// Both halves are JSON objects that are changed by merge patches (RFC 7396). What of desired differs from reported is the
// delta; a device that obeys it and reports what it did makes it empty. A change is in the bucket, synced, before it is
// answered, and only then shown or told to the device. A patch that changes nothing writes nothing and keeps the version.
//
// The package does not own the connection: a [Receiver] is told of each change of desired, and passes it on. Nor does it
// know rights, or whether a device exists, beyond asking.
//
// # Several hubs
//
// A write carries the revision that it was made on; where another hub was first, the patch is merged again into what is
// there. Changes of other hubs arrive by a watch, and are told to devices like those of this one.
//
// # Overload
//
// A device writes [burst] changes at once and then [perSecond]; what comes meanwhile gathers and is one change with one
// write. So a device that reports in a loop costs ten writes a second, and [writers] bounds those of all devices at one
// time; an operator's change does not wait for its device's pace. Whoever reports bounds how many reports it has under
// way; [MaxDesires] bounds operators' changes a device, beyond it they are refused. Reports that cannot be written wait
// and are tried again; an operator is told.
//
// The mirror in memory holds each document without its history, as JSON: about 200 bytes and its text, so some 100 MB for
// 100,000 devices whose documents, times included, are 800 bytes. Config.MaxBytes bounds each half of a document.
//
// Files in reading order: tree.go (JSON, strictly), patch.go (RFC 7396), record.go (a document in the bucket), errors.go,
// documents.go (Open, the mirror, Close), change.go (what is asked for), writer.go (memory to bucket), read.go, feed.go,
// metrics.go.
package state
