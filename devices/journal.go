package devices

import (
	"time"

	"telemetryhub/wire"
)

// journalRetry is what a device that waits for the journal is told as its retry_after_ms.
const journalRetry = 5 * time.Second

// JournalWaits tells each device, once, that nothing is acked at present: those that are connected, also while the
// journal holds their reader, and those that come before JournalGoesOn. code is wire.ReasonJournalFull or ReasonHubBusy.
func (c *Connector) JournalWaits(code, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits != nil {
		return
	}
	c.waits = &wire.Notice{Code: code, Message: message, RetryAfter: journalRetry}
	for n := range c.conns {
		n.tell(*c.waits)
	}
}

// JournalGoesOn tells each device that acks go on, if it was told otherwise.
func (c *Connector) JournalGoesOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == nil {
		return
	}
	c.waits = nil
	for n := range c.conns {
		n.tell(wire.Notice{Code: wire.ReasonJournalOK, Message: "readings are acked again"})
	}
}

// tell adds a notice that no frame of the device asked for. A device that does not read is not told: its outbox would
// grow with each episode.
func (n *conn) tell(notice wire.Notice) {
	if !n.out.full() {
		n.notice(notice)
	}
}
