package enrolment

import (
	"context"
	"errors"
	"sync"
	"time"

	"telemetryhub/auth"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// enrolTries bounds how often the registry is asked again because others changed the same device meanwhile.
const enrolTries = 4

// maxSaid bounds what a device says of its model and firmware, in bytes, as in hello.
const maxSaid = 256

// Knows implements devices.Enroller.
func (k *Keys) Knows(secret string) bool { return k.find(secret) != nil }

// Enrol gives the device credentials for its key, and counts it. An error is an *devices.EnrolError.
func (k *Keys) Enrol(ctx context.Context, r devices.EnrolRequest) (devices.Enrolment, error) {
	// It is carried through, whoever still listens: half of it would only have to be repeated.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enrolLimit)
	defer cancel()
	l := k.find(r.Key)
	if l == nil {
		return devices.Enrolment{}, k.refuse(nil, r, refusal(reasonUnknownKey, "the enrolment key is not valid"))
	}
	made, err := k.enrol(ctx, l, r)
	if err == nil {
		return made, nil
	}
	var refused *devices.EnrolError
	if errors.Is(err, errGone) {
		refused = refusal(reasonUnknownKey, "the enrolment key is not valid")
	} else if !errors.As(err, &refused) {
		k.cfg.Log.Error("enrol a device", "device", r.Device, "key", l.id, "err", err)
		refused = unavailable("the enrolment could not be written; try again")
	}
	return devices.Enrolment{}, k.refuse(l, r, refused)
}

// refuse counts a refusal and says what the device is told.
func (k *Keys) refuse(l *lane, r devices.EnrolRequest, e *devices.EnrolError) *devices.EnrolError {
	k.metrics.count(e.Reason)
	if e.Temporary() {
		return e // the hub's fault, and in its log
	}
	plain := true
	event := Event{Device: r.Device, Transport: r.Transport, Remote: r.Remote, Reason: e.Reason, Message: e.Message}
	if l != nil {
		plain = l.count(e)
		event.Key, _ = l.read()
	}
	if plain = k.all.allow(time.Now()) && plain; !plain {
		k.silent.Add(1)
		return masked()
	}
	if wire.CheckDeviceID(r.Device) != nil {
		event.Device = "" // not to be repeated
	}
	event.Suppressed = k.silent.Swap(0)
	k.cfg.Refused(event)
	return e
}

// enrol is the exchange, for a key that exists.
func (k *Keys) enrol(ctx context.Context, l *lane, r devices.EnrolRequest) (devices.Enrolment, error) {
	key, ok := l.read()
	if !ok {
		return devices.Enrolment{}, errGone
	}
	if e := key.standing(time.Now()); e != nil {
		return devices.Enrolment{}, e
	}
	if err := key.admits(r); err != nil {
		return devices.Enrolment{}, err
	}
	if err := k.cfg.Ready(); err != nil {
		return devices.Enrolment{}, unavailable("enrolments cannot be recorded at present")
	}
	certificate, err := k.sign(r)
	if err != nil {
		return devices.Enrolment{}, err
	}
	leave, err := k.turns.take(ctx, r.Device)
	if err != nil {
		return devices.Enrolment{}, err
	}
	defer leave()
	for range enrolTries {
		made, again, err := k.grant(ctx, l, r, certificate)
		if errors.Is(err, devices.ErrExists) || errors.Is(err, devices.ErrNotFound) {
			continue // somebody made or deleted it since it was looked for
		}
		if err != nil {
			return devices.Enrolment{}, err
		}
		made.Certificate = certificate
		event := Event{Key: key, Device: r.Device, Transport: r.Transport, Remote: r.Remote, Again: again}
		if certificate != nil {
			event.Cert = certificate.ID()
		}
		if err := k.cfg.Record(ctx, event); err != nil {
			return devices.Enrolment{}, unavailable("the enrolment could not be recorded; try again")
		}
		outcome := "enrolled"
		if again {
			outcome = "again"
		}
		k.metrics.count(outcome)
		k.cfg.Log.Info("device enrolled", "device", r.Device, "key", key.ID, "again", again, "transport", r.Transport, "remote", r.Remote)
		return made, nil
	}
	return devices.Enrolment{}, unavailable("the device is being changed by others; try again")
}

// admits compares what the device says of itself with the key's terms.
func (k *Key) admits(r devices.EnrolRequest) error {
	if err := wire.CheckDeviceID(r.Device); err != nil {
		return refusal(reasonInvalid, "id: %v", err)
	}
	if !k.takes(r.Device) {
		return refusal(reasonID, "the key is for ids like %s", k.Pattern)
	}
	if k.Type != "" && r.Type != "" && r.Type != k.Type {
		return refusal(reasonType, "the key is for devices of type %s", k.Type)
	}
	if len(r.Model) > maxSaid || len(r.Firmware) > maxSaid {
		return refusal(reasonInvalid, "model and firmware have at most %d bytes", maxSaid)
	}
	if err := k.device(r).Validate(); err != nil {
		return refusal(reasonInvalid, "%v", err)
	}
	return nil
}

// device is what the registry is to be given.
func (k *Key) device(r devices.EnrolRequest) devices.Device {
	d := devices.Device{ID: r.Device, Type: k.Type, Tags: k.Tags, Attributes: r.Attributes}
	if d.Type == "" {
		d.Type = r.Type
	}
	return d
}

// sign has the device's certificate signed, if it asks for one. It is of no use until the registry has it.
func (k *Keys) sign(r devices.EnrolRequest) (*auth.IssuedCertificate, error) {
	if len(r.CSR) == 0 {
		return nil, nil
	}
	made, err := k.cfg.Sign(r.CSR, r.Device)
	if wrong, ok := errors.AsType[*auth.SigningRequestError](err); ok {
		return nil, refusal(reasonCSR, "csr: %s", wrong.Message)
	}
	return &made, err
}

func certificates(made *auth.IssuedCertificate) []devices.Certificate {
	if made == nil {
		return nil
	}
	return []devices.Certificate{devices.CertificateOf(*made)}
}

// grant makes the device, or gives the one there is other credentials; again says which.
func (k *Keys) grant(ctx context.Context, l *lane, r devices.EnrolRequest, certificate *auth.IssuedCertificate) (made devices.Enrolment, again bool, err error) {
	if _, exists := k.registry.Get(r.Device); exists {
		made, err = k.regrant(ctx, l, r, certificate)
		return made, true, err
	}
	made, err = k.make(ctx, l, r, certificate)
	return made, false, err
}

// make counts the device, and then makes it.
func (k *Keys) make(ctx context.Context, l *lane, r devices.EnrolRequest, certificate *auth.IssuedCertificate) (devices.Enrolment, error) {
	c := claim{Device: r.Device, At: time.Now().UTC()}
	err := l.change(ctx, func(key *Key) error {
		if e := key.standing(c.At); e != nil {
			return e
		}
		if e := key.claim(c); e != nil {
			return e
		}
		return nil
	})
	if err != nil {
		return devices.Enrolment{}, err
	}
	key, _ := l.read()
	d := key.device(r)
	d.Certificates = certificates(certificate)
	d.Enrolled = &devices.Enrolled{Key: key.ID, At: c.At, Until: c.At.Add(devices.ConfirmWithin), Model: r.Model, Firmware: r.Firmware}
	d, token, err := k.registry.CreateEnrolled(ctx, d)
	if errors.Is(err, devices.ErrExists) {
		// Surely nothing was made. Of any other error that is not sure; then the claim ends by itself.
		err = errors.Join(err, l.change(ctx, func(key *Key) error { key.release(c); return nil }))
	}
	if err != nil {
		return devices.Enrolment{}, err
	}
	k.cfg.Clear(ctx, d.ID)
	return devices.EnrolmentOf(d, token), nil
}

// regrant gives a device that the key has enrolled other credentials, if it may come again.
func (k *Keys) regrant(ctx context.Context, l *lane, r devices.EnrolRequest, certificate *auth.IssuedCertificate) (devices.Enrolment, error) {
	d, token, err := k.registry.EnrolAgain(ctx, r.Device, func(d *devices.Device) error {
		key, ok := l.read()
		if !ok {
			return errGone
		}
		if e := key.readmits(*d, time.Now()); e != nil {
			return e
		}
		again := *d.Enrolled // the record's own is read by others
		if !d.Unconfirmed() || !time.Now().Before(again.Until) {
			again.Until = time.Now().UTC().Add(devices.ConfirmWithin)
		}
		again.Model, again.Firmware = r.Model, r.Firmware
		d.Enrolled, d.Certificates = &again, certificates(certificate)
		return nil
	})
	if err != nil {
		return devices.Enrolment{}, err
	}
	return devices.EnrolmentOf(d, token), nil
}

// readmits refuses a device that exists, unless it is one of the key's that may come again.
func (k *Key) readmits(d devices.Device, now time.Time) *devices.EnrolError {
	switch {
	case d.Enrolled == nil || d.Enrolled.Key != k.ID:
		return refusal(reasonExists, "a device with this id exists and was not enrolled by this key")
	case !d.Enabled:
		return refusal(reasonDevice, "the device is disabled; an operator can enable it")
	case k.Again, now.Before(d.Enrolled.Until):
		return nil
	}
	return refusal(reasonEnrolled, "the device is enrolled and has its own credentials; `hubctl devices token %s` gives others, and a key made with --again lets it enrol again", d.ID)
}

// turns lets one enrolment of a device at a time in.
type turns struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when its holder leaves
}

// take waits for the device's turn; leave gives it back.
func (t *turns) take(ctx context.Context, device string) (leave func(), err error) {
	for {
		t.mu.Lock()
		other, taken := t.held[device]
		if !taken {
			mine := make(chan struct{})
			if t.held == nil {
				t.held = map[string]chan struct{}{}
			}
			t.held[device] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.held, device)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, unavailable("another enrolment of this device is under way")
		}
	}
}
