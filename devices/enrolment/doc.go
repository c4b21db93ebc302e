// Package enrolment owns enrolment keys: what an operator puts into the firmware of many devices, so that each gets
// credentials of its own when it first connects (zero touch provisioning). A key is limited by count, time, device type
// and a pattern of ids; only its hash is kept.
//
// It does not own the registry, which makes the device and its token (package devices), nor the line on which the
// device asks: the WebSocket, MQTT and HTTP each turn a request into a [devices.EnrolRequest] and the answer or the
// [devices.EnrolError] into their own words. The audit log is told by [Config.Record].
//
// # Never more than the limit
//
// A device is counted before it exists: the key's record is written with a claim in it, then the registry's with the
// claim's time in it, and only then is a token given out. What comes between two of these ends in one of two ways,
// which the records tell apart: there is a device with that claim's time, and the claim is dropped, being counted; or
// there is none, and after claimLife, by when nobody makes it any more, claim and count are taken back. Nobody was given
// anything in that case. Several hubs on one bucket write at the revision that they read, so the count holds for all.
//
// # Confirmed or not
//
// A device that lost the answer comes again with the key. Until it has confirmed its credentials, by the answer to
// hub.credentials or by using them, and for no longer than [devices.ConfirmWithin], that gives it another token, voids the
// one before, and is not counted. Afterwards the key is of no use for this id, unless it was made so ([Terms.Again]).
//
// # Overload
//
// Claims of one key that come together are one write. Refusals are answered alike from a rate on, for a key and for all
// together, so that whoever tries keys or ids learns nothing and fills neither the log nor the audit log; a good request
// is never refused for the bad ones of others.
//
// Files in reading order: terms.go (what an operator sets), key.go (its record), lane.go (changes of one key, gathered),
// keys.go (all of them: open, add, change, remove), enrol.go (the exchange), refusals.go (and its rates), metrics.go.
package enrolment
