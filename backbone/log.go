package backbone

import (
	"fmt"
	"log/slog"
	"strings"
)

// serverLog gives the server's words to slog. Its notices (a banner of twenty lines) are for debugging only.
type serverLog struct {
	log    *slog.Logger
	failed chan<- struct{} // told when a store could not be written; of capacity 1
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats says", "words", fmt.Sprintf(format, v...))
}

func (l *serverLog) Debugf(format string, v ...any) {
	l.log.Debug("nats says", "words", fmt.Sprintf(format, v...))
}

func (l *serverLog) Tracef(format string, v ...any) {
	l.log.Debug("nats says", "words", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("nats says", "words", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	// The server tells of it in no other way; a test holds these words. Those of the store come again with each message
	// that is refused for it, so that none is missed.
	words := fmt.Sprintf(format, v...)
	if strings.Contains(words, "ritical write error") || strings.Contains(words, "failed to store a msg") || strings.Contains(words, "will be DISABLED") {
		select {
		case l.failed <- struct{}{}:
		default:
		}
	}
	l.log.Error("nats says", "words", words)
}

// Fatalf does not end the process: the start sees that the server is not ready, and later faults show in each publish.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error("nats says", "words", fmt.Sprintf(format, v...))
}
