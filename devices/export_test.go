package devices

import "fmt"

// Contests returns of how many devices connections that displaced each other are kept.
func (s *Sessions) Contests() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.contests)
}

// Version returns the number of the last presence change.
func (s *Sessions) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Check compares what the Connector, its Sessions and its gauges say of each other. Call it when nothing is on its way.
func (c *Connector) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions.mu.RLock()
	defer c.sessions.mu.RUnlock()
	if c.stopping && len(c.conns) != 0 {
		return fmt.Errorf("%d connections are left after Stop", len(c.conns))
	}
	current := 0
	for n := range c.conns {
		if n.session == nil {
			return fmt.Errorf("a connection of %s has no session", n.device)
		}
		if c.sessions.byDevice[n.device] == n.session {
			current++
		}
	}
	for device, s := range c.sessions.byDevice {
		if s.Device != device {
			return fmt.Errorf("the session of %s is listed for %s", s.Device, device)
		}
		if s.id > c.sessions.lastID {
			return fmt.Errorf("session %d of %s is above the last, %d", s.id, device, c.sessions.lastID)
		}
		if n, ok := s.Link.(*conn); ok && !c.conns[n] {
			return fmt.Errorf("the session of %s has a connection that ended", device)
		} else if ok {
			current--
		}
	}
	if current != 0 {
		return fmt.Errorf("%d more connections are current than there are sessions", current)
	}
	return nil
}

// Meters returns how many devices the Throttle holds something of.
func (t *Throttle) Meters() (n int) {
	for i := range t.shards {
		t.shards[i].mu.Lock()
		n += len(t.shards[i].meters)
		t.shards[i].mu.Unlock()
	}
	return n
}
