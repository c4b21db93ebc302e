package rollouts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"telemetryhub/commands"
)

// Preview is whom a rollout would reach. Nothing is recorded for it.
type Preview struct {
	Devices  []PreviewDevice // in the order of sending
	Online   int
	Refused  int       // devices that the ledger would refuse the command for
	Refusals []Refusal // the first of them
	Waves    int
}

// PreviewDevice is one of them.
type PreviewDevice struct {
	Device string
	Online bool
}

// Preview says whom a request would reach now. Errors: *commands.InvalidError, *UnknownDevicesError.
func (s *Service) Preview(req Request) (Preview, error) {
	devices, err := s.resolve(&req)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Devices: make([]PreviewDevice, len(devices)), Waves: req.Waves.count(len(devices))}
	for i, id := range devices {
		p.Devices[i] = PreviewDevice{Device: id, Online: s.fleet.Online(id)}
		if p.Devices[i].Online {
			p.Online++
		}
	}
	refused := (*RefusedError)(nil)
	if _, err := s.askFor(&req, devices); errors.As(err, &refused) {
		p.Refused, p.Refusals = refused.Count, refused.Refusals
	} else if err != nil {
		return Preview{}, err
	}
	return p, nil
}

// resolve checks the request and returns its devices.
func (s *Service) resolve(req *Request) ([]string, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	devices, err := req.To.resolve(within(s.fleet, req.Within))
	if err != nil {
		return nil, err
	}
	if len(devices) > MaxDevices {
		return nil, &commands.InvalidError{
			Field: "to", Message: fmt.Sprintf("%d devices are more than %d", len(devices), MaxDevices), Limit: MaxDevices, Value: int64(len(devices)),
		}
	}
	return devices, nil
}

// terms are what the devices' types say of the request.
type terms struct {
	longest time.Duration   // of the timeouts
	masked  json.RawMessage // the params for people's eyes; nil: as they are
}

// hidden stands for params in which types differ about what is secret.
const hidden = `"[secret]"`

func (t *terms) add(c commands.Command) {
	t.longest = max(t.longest, time.Duration(c.TimeoutMs)*time.Millisecond)
	switch {
	case c.Masked == nil:
	case t.masked == nil:
		t.masked = c.Masked
	case !bytes.Equal(t.masked, c.Masked):
		t.masked = json.RawMessage(hidden)
	}
}

// askFor asks the ledger for each device whether it would take the command. What it refuses for all of them in the same
// words is wrong with the request: that is returned as it is.
func (s *Service) askFor(req *Request, devices []string) (t terms, err error) {
	var first error
	same := true
	refused := &RefusedError{Of: len(devices)}
	for _, id := range devices {
		c, err := s.ledger.Check(req.command(id))
		if err == nil {
			t.add(c)
			continue
		}
		if first == nil {
			first = err
		}
		same = same && err.Error() == first.Error()
		if refused.Count++; len(refused.Refusals) < MaxRefusals {
			refused.Refusals = append(refused.Refusals, Refusal{Device: id, Reason: err.Error()})
		}
	}
	switch {
	case refused.Count == 0:
		return t, nil
	case same && refused.Count == len(devices):
		return t, first
	}
	return t, refused
}

// Create makes a rollout and begins it, or returns the first one with the same Idempotency-Key. It is durable when
// Create returns, and nothing is sent before. Errors, of which nothing is recorded: *commands.InvalidError,
// *UnknownDevicesError, *RefusedError, *BusyError, ErrClosed.
func (s *Service) Create(ctx context.Context, req Request) (Rollout, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if first, ok, err := s.first(&req); ok || err != nil {
		return first, err
	}
	devices, err := s.resolve(&req)
	if err != nil {
		return Rollout{}, err
	}
	terms, err := s.askFor(&req, devices)
	if err != nil {
		return Rollout{}, err
	}
	if err := s.admit(len(devices)); err != nil {
		return Rollout{}, err
	}
	r := plan(&req, devices, terms)
	if err := s.record(ctx, r); err != nil {
		return Rollout{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[r.plan.ID] = r
	if req.IdempotencyKey != "" {
		s.keys[req.IdempotencyKey] = r.plan.ID
	}
	s.begin(r)
	if !s.closed { // else the next start goes on with it
		s.group.Go(func() { s.drive(r) })
	}
	s.log.Info("rollout begun", "rollout", r.plan.ID, "method", r.plan.Method, "devices", len(devices), "to", clip(r.plan.To.String()), "actor", r.plan.Actor)
	view := r.view()
	s.feeds.Publish(view)
	return view, nil
}

// first returns the rollout that the request's key already stands for.
func (s *Service) first(req *Request) (Rollout, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Rollout{}, false, ErrClosed
	}
	id, ok := s.keys[req.IdempotencyKey]
	if !ok || req.IdempotencyKey == "" {
		return Rollout{}, false, nil
	}
	r := s.byID[id]
	if r.plan.Fingerprint != req.fingerprint() {
		return Rollout{}, false, &commands.InvalidError{Field: "idempotency_key", Message: "it was used for another rollout (" + id + ")"}
	}
	return r.view(), true, nil
}

func (s *Service) admit(devices int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rollouts, have := s.open()
	switch {
	case rollouts >= MaxOpen:
		return &BusyError{What: "rollouts", Limit: MaxOpen, Value: rollouts + 1}
	case have+devices > MaxOpenDevices:
		return &BusyError{What: "devices", Limit: MaxOpenDevices, Value: have + devices}
	}
	return nil
}

// plan makes a rollout in memory.
func plan(req *Request, devices []string, t terms) *rollout {
	now := stamp(time.Now())
	p := Plan{
		ID: newID(now), To: req.To.kept(), IDs: len(req.To.IDs), Method: req.Method, Params: compacted(req.Params), Masked: t.masked,
		Delivery: req.Delivery, Expires: req.Expires, Timeout: req.Timeout, Longest: t.longest, Offline: req.Offline, Waves: req.Waves,
		Within: req.Within, Actor: req.Actor, Role: req.Role, Origin: req.Origin, Created: now,
		Devices: len(devices), IdempotencyKey: req.IdempotencyKey, Fingerprint: req.fingerprint(),
	}
	if p.Offline == "" {
		p.Offline = QueueOffline
	}
	targets := make([]note, len(devices))
	for i := range targets {
		targets[i].Outcome = Pending
	}
	r := &rollout{plan: p, head: head{Limits: req.Limits, Counts: counts{Pending: len(devices)}}, live: newLive(devices, targets)}
	r.head.record(Change{State: Running, Time: now, Actor: req.Actor})
	return r
}

// compacted is params, which were checked, without blanks between their parts: as the bucket gives them back.
func compacted(params json.RawMessage) json.RawMessage {
	var text bytes.Buffer
	if json.Compact(&text, params) != nil {
		return params
	}
	return text.Bytes()
}

// record writes a new rollout: its head last, so that half a rollout is none. What a failure leaves is swept later.
func (s *Service) record(ctx context.Context, r *rollout) error {
	ctx = context.WithoutCancel(ctx) // it is written whole although the asker leaves
	id := r.plan.ID
	write := func(key string, v any) error {
		select {
		case <-s.stop:
			return ErrClosed
		default:
		}
		if err := s.put(ctx, key, v); err != nil {
			return fmt.Errorf("rollouts: it could not be written, nothing was sent: %w", err)
		}
		return nil
	}
	for n := range shards(len(r.live.devices)) {
		from, to := shardRange(n, len(r.live.devices))
		if err := write(shardKey(id, devicesKey, n), r.live.devices[from:to]); err != nil {
			return err
		}
	}
	if err := write(id+planKey, r.plan); err != nil {
		return err
	}
	return write(id+headKey, r.head)
}

// newID is the time, so that ids sort by it and tell it, and some letters that tell those of one second apart.
func newID(now time.Time) string {
	return now.Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
}

// IsID reports whether a text has the form of an id, so that a stray text never becomes a key of the bucket.
func IsID(text string) bool {
	const form = "00000000-000000-aaaaaa"
	if len(text) != len(form) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		switch form[i] {
		case '0':
			if c < '0' || c > '9' {
				return false
			}
		case 'a':
			if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
				return false
			}
		default:
			if c != '-' {
				return false
			}
		}
	}
	return true
}
