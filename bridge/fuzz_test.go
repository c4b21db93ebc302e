package bridge_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// FuzzBroker sends anything behind a CONNECT. The connection ends when the device goes, the engine has not failed, and the
// broker is there for the next.
func FuzzBroker(f *testing.F) {
	for _, c := range badPackets() {
		f.Add(c.versions == "5", c.packet)
	}
	f.Add(true, append(body(0x82, 0, 1, 0, "chat/#", 1), body(0x33, "chat/a", 0, 7, 0, []byte("x"))...))
	f.Add(false, append(body(0x82, 0, 1, "devices/sensor-1/#", 2), body(0x34, "devices/sensor-1/telemetry", 0, 7, []byte(`{"n":1}`))...))
	h := &hub{journal: newJournal(), answers: newAnswers(), metrics: prometheus.NewRegistry()}
	log := slog.New(slog.DiscardHandler)
	h.sessions = devices.NewSessions(devices.Life{}, log)
	h.sessions.Bind(quietAnswers{})
	cfg := bridge.DefaultBrokerConfig()
	cfg.Listen = bridge.Off
	talkative(&cfg)
	b, err := bridge.OpenBroker(cfg, nil, bridge.Hub{
		Registry: knownDevices{}, Profiles: sameProfile{}, Throttle: devices.NewThrottle(h.sessions, nil, log), Sessions: h.sessions, Sink: h.journal, States: newStates(),
		Admission: devices.NewAdmission(devices.AdmissionConfig{Rate: 1_000_000, Connections: 1000}), Metrics: h.metrics, Log: log,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, v5 bool, in []byte) {
		version := byte(4)
		connect := body(0x10, "MQTT", 4, 0xc2, 0, 60, "c", "sensor-1", "secret")
		if v5 {
			version, connect = 5, body(0x10, "MQTT", 5, 0xc2, 0, 60, []byte{0}, "c", "sensor-1", "secret")
		}
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.ServeConn(theirs, bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
		}()
		r := newRaw(t, ours, version)
		r.write(connect)
		r.want(2)
		go func() { _, _ = io.Copy(io.Discard, r.in) }()
		_ = ours.SetWriteDeadline(time.Now().Add(patience))
		_, _ = ours.Write(in) // the broker may have closed it
		_ = ours.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		if n := faults(t, h.metrics); n > 0 {
			t.Fatalf("%v faults of the engine", n)
		}
	})
}

// quietAnswers takes what devices answer, however much.
type quietAnswers struct{}

func (quietAnswers) Answered(string, uint64, wire.Answer)     {}
func (quietAnswers) Progressed(string, uint64, wire.Progress) {}
func (quietAnswers) Pending(string) int                       { return 0 }
func (quietAnswers) SessionReady(string, uint64)              {}
func (quietAnswers) SessionEnded(string, uint64)              {}

// faults returns how often the engine has failed.
func faults(t *testing.T, from *prometheus.Registry) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "hub_mqtt_faults_total" {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("no counter of faults")
	return 0
}
