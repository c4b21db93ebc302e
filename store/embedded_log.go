package store

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// engineLog passes the engine's warnings to slog. The engine tells many failures at level info with an error attached;
// those are warnings too. Its other messages are dropped: they tell of routine.
type engineLog struct {
	log   *slog.Logger
	attrs []zapcore.Field
}

func newEngineLogger(log *slog.Logger) *zap.Logger {
	return zap.New(engineLog{log: log.With("part", "tsdb")})
}

// Enabled implements zapcore.Core.
func (engineLog) Enabled(level zapcore.Level) bool { return level >= zapcore.InfoLevel }

// With implements zapcore.Core.
func (e engineLog) With(fields []zapcore.Field) zapcore.Core {
	return engineLog{e.log, append(slices.Clip(e.attrs), fields...)}
}

// Check implements zapcore.Core.
func (e engineLog) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Enabled(entry.Level) {
		return checked.AddCore(entry, e)
	}
	return checked
}

// Write implements zapcore.Core.
func (e engineLog) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	failed := false
	for _, f := range fields {
		failed = failed || f.Type == zapcore.ErrorType
	}
	level := slog.LevelWarn
	switch {
	case entry.Level >= zapcore.ErrorLevel:
		level = slog.LevelError
	case entry.Level < zapcore.WarnLevel && !failed:
		return nil
	}
	facts := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(e.attrs), fields...) {
		f.AddTo(facts)
	}
	attrs := make([]slog.Attr, 0, len(facts.Fields)+1)
	attrs = append(attrs, slog.String("message", entry.Message))
	for name, value := range facts.Fields {
		attrs = append(attrs, slog.Any(name, value))
	}
	e.log.LogAttrs(context.Background(), level, "time-series engine", attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (engineLog) Sync() error { return nil }
