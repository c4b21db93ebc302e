package devices

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func limitUnacked(fd uintptr, limit time.Duration) error {
	if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds())); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
