package commands

// Check returns the command that Send would make of the request, without what only the sending gives it, or why it
// would not take it as far as that can be known before: an [*InvalidError] or [*ForbiddenError].
func (s *Service) Check(r Request) (Command, error) {
	c, err := s.validate(r)
	if err != nil {
		return Command{}, err
	}
	return *c, nil
}

// Keyed returns the command that an Idempotency-Key of a device stands for, as it is durable; ErrNotFound if there is
// none.
func (s *Service) Keyed(device, key string) (Command, error) {
	s.mu.Lock()
	id, ok := s.keys.find(device, key)
	s.mu.Unlock()
	if !ok {
		return Command{}, ErrNotFound
	}
	return s.get(s.ctx, id)
}
