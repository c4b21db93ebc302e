package rollouts

// LimitShares lowers what rollouts may have of the ledger's room for a test.
func (s *Service) LimitShares(queued, working int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shareQueued, s.shareWorking = queued, working
}

// MissChanges has the service believe that the ledger's feed lost some.
func (s *Service) MissChanges() { s.askAll() }
