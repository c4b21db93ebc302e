//go:build race

package main

// raceEnabled says whether the test has the race detector; the programs get it too.
const raceEnabled = true
