package enrolment_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"telemetryhub/auth"
	"telemetryhub/devices"
	"telemetryhub/devices/enrolment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// office is a registry and its enrolment keys, on buckets that may be shared with another office.
type office struct {
	t        *testing.T
	registry *devices.Registry
	keys     *enrolment.Keys

	mu       sync.Mutex
	events   []enrolment.Event // enrolments
	refused  []enrolment.Event
	cleared  []string
	notReady error
	lost     error // of Record
}

func open(t *testing.T, devicesKV, keysKV jetstream.KeyValue, alone bool) *office {
	t.Helper()
	o := &office{t: t}
	var err error
	if o.registry, err = devices.OpenRegistry(t.Context(), devicesKV, devices.TokenConfig{}); err != nil {
		t.Fatal(err)
	}
	o.keys, err = enrolment.Open(t.Context(), keysKV, o.registry, enrolment.Config{
		Alone: alone, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Sign: func(csr []byte, device string) (auth.IssuedCertificate, error) {
			if string(csr) != "good" {
				return auth.IssuedCertificate{}, &auth.SigningRequestError{Message: "is no request"}
			}
			return auth.IssuedCertificate{PEM: []byte("PEM of " + device), Fingerprint: auth.HashToken(device), NotAfter: time.Now().Add(time.Hour)}, nil
		},
		Clear: func(_ context.Context, device string) {
			o.note(func() { o.cleared = append(o.cleared, device) })
		},
		Ready: func() (err error) {
			o.note(func() { err = o.notReady })
			return err
		},
		Record: func(_ context.Context, e enrolment.Event) (err error) {
			o.note(func() {
				if err = o.lost; err == nil {
					o.events = append(o.events, e)
				}
			})
			return err
		},
		Refused: func(e enrolment.Event) { o.note(func() { o.refused = append(o.refused, e) }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(o.keys.Close(context.Background()), o.registry.Close()); err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *office) note(what func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	what()
}

// add makes a key of these terms and returns its secret and id.
func (o *office) add(terms enrolment.Terms) (secret, id string) {
	o.t.Helper()
	if terms.Name == "" {
		terms.Name = "batch 1"
	}
	key, secret, err := o.keys.Add(o.t.Context(), terms, "ada")
	if err != nil {
		o.t.Fatal(err)
	}
	return secret, key.ID
}

func (o *office) enrol(secret, device string) (devices.Enrolment, error) {
	return o.keys.Enrol(o.t.Context(), devices.EnrolRequest{Key: secret, Device: device, Transport: "http", Remote: "192.0.2.1:5000"})
}

// wantToken enrols a device and returns its token.
func (o *office) wantToken(secret, device string) string {
	o.t.Helper()
	made, err := o.enrol(secret, device)
	if err != nil {
		o.t.Fatalf("enrol %s: %v", device, err)
	}
	return made.Token
}

func (o *office) wantRefusal(secret, device, reason string) *devices.EnrolError {
	o.t.Helper()
	made, err := o.enrol(secret, device)
	return wantReason(o.t, made, err, reason)
}

func wantReason(t *testing.T, made devices.Enrolment, err error, reason string) *devices.EnrolError {
	t.Helper()
	var refused *devices.EnrolError
	if !errors.As(err, &refused) || refused.Reason != reason {
		t.Fatalf("the enrolment ended with %v, want %s", err, reason)
	}
	if made.Token != "" {
		t.Errorf("refused with %s, and a token was given all the same", reason)
	}
	return refused
}

func (o *office) wantUsed(id string, used int) {
	o.t.Helper()
	v, err := o.keys.Get(id)
	if err != nil || v.Used != used || v.Left != v.Limit-used {
		o.t.Errorf("used %d, left %d of %d, %v; want %d", v.Used, v.Left, v.Limit, err, used)
	}
}

func (o *office) authenticates(device, token string) bool {
	d, _, err := o.registry.Authenticate(device, token)
	return err == nil && d.ID == device
}
