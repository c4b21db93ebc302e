package acts

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Source returns the acts of the commands that the ledger has from a time on: CommandSend, with their ids as targets.
type Source func(ctx context.Context, since time.Time) ([]Act, error)

// Follow compares the log with the ledger, and writes what is missing because a crash, or a full queue, came between
// the two. It is called once, when the ledger is open and before commands come in.
func (l *Log) Follow(ctx context.Context, ledger Source) error {
	l.mu.Lock()
	l.source = ledger
	l.mu.Unlock()
	last, err := l.last(ctx)
	if err != nil {
		return fmt.Errorf("compare the audit log with the ledger: %w", err)
	}
	if last.Floor.IsZero() {
		return nil // a new log: what was sent before it is not its to tell
	}
	return l.recover(ctx, last.Floor, ledger)
}

// recover notes the commands from a time on that the log has not.
func (l *Log) recover(ctx context.Context, since time.Time, ledger Source) error {
	there, err := l.commandsSince(ctx, since)
	if err != nil {
		return fmt.Errorf("compare the audit log with the ledger: %w", err)
	}
	sent, err := ledger(ctx, since)
	if err != nil {
		return fmt.Errorf("compare the audit log with the ledger: %w", err)
	}
	l.mu.Lock()
	l.dropped = time.Time{} // what is dropped again from here on sets it anew
	for _, p := range l.queue {
		if p.act.Act == CommandSend {
			there[p.act.Target] = true
		}
	}
	l.mu.Unlock()
	missing := 0
	for _, a := range sent {
		if !there[a.Target] {
			a.Recovered = true
			missing++
			l.Note(a)
		}
	}
	if missing > 0 {
		l.log.Info("audit log: commands written from the ledger", "commands", missing, "since", since)
	}
	return nil
}

// commandsSince returns the ids of the commands that the log has, as far as they were written from a time on.
func (l *Log) commandsSince(ctx context.Context, since time.Time) (map[string]bool, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for place := info.State.LastSeq; place >= max(info.State.FirstSeq, 1); place-- {
		b, written, err := l.read(ctx, place)
		switch {
		case errors.Is(err, errUnreadable):
			continue
		case err != nil:
			return nil, err
		case written.Before(since):
			return ids, nil
		}
		for _, a := range b.Acts {
			if a.Act == CommandSend && a.Target != "" {
				ids[a.Target] = true
			}
		}
	}
	return ids, nil
}

// last returns the newest batch; of an empty log, none.
func (l *Log) last(ctx context.Context) (batch, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return batch{}, err
	}
	for place := info.State.LastSeq; place >= max(info.State.FirstSeq, 1); place-- {
		b, _, err := l.read(ctx, place)
		if errors.Is(err, errUnreadable) {
			continue
		}
		return b, err
	}
	return batch{}, nil
}
