package commands

// LimitMirror lowers the bound of the mirror for a test.
func (s *Service) LimitMirror(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mirror.limit = bytes
}
