package auth

import (
	"os"
)

// watchedFiles notices that files have changed since it looked last. Whoever reads them does so after that, so that a
// change in between is noticed the next time.
type watchedFiles struct {
	paths []string
	seen  []os.FileInfo // nil where there was none
}

// watch begins anew with these files, as they are now.
func (w *watchedFiles) watch(paths ...string) {
	w.paths, w.seen = paths, make([]os.FileInfo, len(paths))
	w.changed()
}

// changed looks at all of them.
func (w *watchedFiles) changed() bool {
	found := false
	for i, path := range w.paths {
		now, err := os.Stat(path)
		if err != nil {
			now = nil // whoever reads it says why
		}
		before := w.seen[i]
		w.seen[i] = now
		switch {
		case before == nil && now == nil:
		case before == nil || now == nil,
			!os.SameFile(before, now), before.Size() != now.Size(), !before.ModTime().Equal(now.ModTime()):
			found = true
		}
	}
	return found
}
