package main

import (
	"os"
	"runtime"
)

// shareProcessors returns what ingest tells when devices that catch up begin, and cease, to wait behind live ones. Go gives
// up a processor to the next goroutine after 10 ms, which is how long the embedded store works on a batch while live
// readings wait for a processor. With twice as many threads as processors the kernel shares them, in slices of 3 ms and
// in favour of who has used less. A hub at its limit pays for that with a quarter of its throughput: only while it is
// crowded, where live readings go first.
func shareProcessors() func(crowded bool) {
	processors := runtime.GOMAXPROCS(0)
	chosen := os.Getenv("GOMAXPROCS") != "" // by an operator: then Go follows no cgroup either
	return func(crowded bool) {
		switch {
		case crowded:
			runtime.GOMAXPROCS(2 * processors)
		case chosen:
			runtime.GOMAXPROCS(processors)
		default:
			runtime.SetDefaultGOMAXPROCS()
		}
	}
}
