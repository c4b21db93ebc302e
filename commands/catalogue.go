package commands

import (
	"encoding/json"
	"time"
)

// Catalogue knows which methods a device takes, and with which params.
type Catalogue interface {
	// Check is asked before anything of a request is recorded. Its errors are *InvalidError and *ForbiddenError.
	Check(r Request) (Terms, error)
}

// Terms are how a request is sent, where the request leaves it open.
type Terms struct {
	Params   json.RawMessage // with the defaults of those that are missing; JSON, or empty
	Masked   json.RawMessage // Params for people's eyes, where something in them is secret
	Timeout  time.Duration   // for the answer; 0: the configured one
	Delivery Delivery        // empty: AtMostOnce
}

// Fault is one thing that is wrong with params, and where: a JSON pointer (RFC 6901) into them.
type Fault struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

// ForbiddenError refuses a command because it takes another role to send it. Nothing was recorded.
type ForbiddenError struct {
	Method string
	Needs  string // the role
}

func (e *ForbiddenError) Error() string {
	return "the method " + e.Method + " takes the role " + e.Needs
}

// onTerms completes a request from the catalogue, and returns its params for people's eyes if they differ.
func (s *Service) onTerms(r *Request) (masked json.RawMessage, err error) {
	if s.cfg.Catalogue == nil {
		return nil, nil
	}
	terms, err := s.cfg.Catalogue.Check(*r)
	if err != nil {
		return nil, err
	}
	r.Params = terms.Params
	if r.Timeout == 0 {
		r.Timeout = terms.Timeout
	}
	if r.Delivery == "" {
		r.Delivery = terms.Delivery
	}
	return terms.Masked, nil
}
