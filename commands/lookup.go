package commands

// Check reports why Send would not take the request, as far as that can be known before: an [*InvalidError].
func (s *Service) Check(r Request) error {
	_, err := s.validate(r)
	return err
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
