package wire

// Waiter is somebody who waits for readings to be durable. Commits are numbered; each frame joins one.
//
// Join is called when a frame joins commit gen, before it can be committed; it returns true where this waiter has not
// joined gen before. Committed is called once for each commit that was joined: with nil after the fsync, with an error
// when the hub stopped before it. Neither may block.
type Waiter = interface {
	Join(gen uint64) (first bool)
	Committed(gen uint64, err error)
}
