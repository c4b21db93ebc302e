// Package judge says whether a hub kept its promises "acked means safe" and "stored once, in effect".
//
// It owns the ledger of what a device sent (the times; the values are made again from the reading's number) and the
// comparison with the points that are read back through the hub's REST API. It does not send readings, and it does not
// wait for the hub to be ready to be judged.
//
// An acked reading must be found exactly once with exactly the values that were sent. A reading that was sent and not
// acked may be there or not, but not twice. A point that bears the mark of this run and was never sent is a fault too.
//
// Points are judged as they come, one page at a time; memory is two bits a reading of the device that is judged, or for
// readings without a number one entry of a map each.
//
// Reading order: ledger.go, judge.go.
package judge
