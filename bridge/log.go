package bridge

import (
	"context"
	"log/slog"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// quiet passes on mochi's warnings and errors without what they quote of packets: payloads and passwords. What a single
// device does wrong is in its counters; here it is a matter of debugging.
type quiet struct{ slog.Handler }

func quietLog(log *slog.Logger) *slog.Logger {
	return slog.New(quiet{log.Handler()}).With("part", "mochi")
}

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	level := r.Level
	switch r.Message {
	case "error processing packet", mqtt.ErrMinimumKeepalive.Error():
		level = slog.LevelDebug
	}
	if !q.Handler.Enabled(ctx, level) {
		return nil
	}
	clean := slog.NewRecord(r.Time, level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "pk" && a.Key != "packet" && a.Key != "will" {
			clean.AddAttrs(a)
		}
		return true
	})
	return q.Handler.Handle(ctx, clean)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
