package bridge

import "sync"

// window bounds the messages that are received and not yet acknowledged, by number and by bytes. One message may always
// come, however large it is.
type window struct {
	messages, bytes int // the most

	mu      sync.Mutex
	open    int
	size    int
	changed chan struct{} // closed when something leaves; nil: nobody waits
}

func newWindow(bounds ExternalWindow) *window {
	return &window{messages: bounds.Messages, bytes: bounds.Bytes}
}

// enter takes a place for a message of size bytes, as soon as there is one. It returns false when either channel ended
// the wait.
func (w *window) enter(size int, ended, stopped <-chan struct{}) bool {
	for {
		changed := w.take(size)
		if changed == nil {
			return true
		}
		select {
		case <-changed:
		case <-ended:
			return false
		case <-stopped:
			return false
		}
	}
}

// take returns nil when it took a place, else what is closed at the next change.
func (w *window) take(size int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == 0 || w.open < w.messages && w.size+size <= w.bytes {
		w.open++
		w.size += size
		return nil
	}
	return w.change()
}

// change needs mu.
func (w *window) change() <-chan struct{} {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// leave gives back the place of a message of size bytes.
func (w *window) leave(size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	w.size -= size
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// count returns the messages and bytes in the window.
func (w *window) count() (messages, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open, w.size
}

// empty waits until nothing is left in the window, or ended.
func (w *window) empty(ended <-chan struct{}) {
	for {
		w.mu.Lock()
		if w.open == 0 {
			w.mu.Unlock()
			return
		}
		changed := w.change()
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ended:
			return
		}
	}
}
