package bridge

import "errors"

// ending says why a connection to an external broker ended, or did not begin: in a word for counters, and for people.
type ending struct {
	word  string
	cause error
}

// Words of ending.
const (
	endConnect   = "connect"   // no TCP, TLS or WebSocket, or closed before CONNACK
	endRefused   = "refused"   // CONNACK says no
	endSubscribe = "subscribe" // a subscription was not granted
	endSilent    = "silent"    // the broker answers nothing
	endProtocol  = "protocol"  // it sends what no broker may
	endLost      = "lost"      // it was there, and is gone
	endJournal   = "journal"   // the hub cannot make readings durable
	endClosed    = "closed"    // the hub stops
)

func (e *ending) Error() string { return e.cause.Error() }
func (e *ending) Unwrap() error { return e.cause }

// endWord returns the word for an error.
func endWord(err error) string {
	if e, ok := errors.AsType[*ending](err); ok {
		return e.word
	}
	return endLost
}
