// Package readings makes what simulated devices send: made-up waveforms, or the rows of a CSV file of real sensor nodes.
//
// A device's readings are numbered n = 1, 2, ... and reading n has the same values whenever it is asked for, so that a
// reading can be sent again, and the judge can compare what was stored, without keeping the values of millions of
// readings in memory. When a reading was measured is not known here; that is the schedule's.
//
// Nothing here blocks, queues or sends, so there is no rule for overload.
//
// Reading order: source.go, synth.go, replay.go.
package readings
