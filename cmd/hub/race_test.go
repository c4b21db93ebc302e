//go:build race

package main

// raceEnabled says that this test, and so the programs that it builds, has the race detector.
const raceEnabled = true
