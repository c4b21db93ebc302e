package devices

import (
	"net"
	"syscall"
	"time"
)

// ListenConfig makes the listeners that devices connect to. What was sent to a device and is not acknowledged by its TCP
// for unacked ends the connection (TCP_USER_TIMEOUT, RFC 5482; on Linux alone, elsewhere the system decides): a command to
// a device whose network is gone is known to be lost then, however long the device's keepalive is. TCP's own keepalive is
// off: it would wake a silent device every 15 s, and hold the mappings of NATs open that the pings are to learn about.
func ListenConfig(unacked time.Duration) *net.ListenConfig {
	return &net.ListenConfig{
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) error { // accepted connections inherit it, tcp(7)
			var failed error
			if err := c.Control(func(fd uintptr) { failed = limitUnacked(fd, unacked) }); err != nil {
				return err
			}
			return failed
		},
	}
}
