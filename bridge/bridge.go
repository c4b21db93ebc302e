package bridge

import (
	"context"
	"log/slog"
	"net"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Registry knows the devices and their tokens.
type Registry interface {
	Authenticate(device, token string) (devices.Device, devices.Proof, error)
	Get(id string) (devices.Device, bool)
	Current(device string, p devices.Proof) error // nil: it may be connected
	// Confirm notes that the device has the credentials that its enrolment gave it.
	Confirm(ctx context.Context, device string, p devices.Proof) error
}

// Profiles knows what holds for each device.
type Profiles interface{ devices.ProfileSource }

// Throttle holds devices to their rates.
type Throttle interface {
	// Take counts a message that was taken and says how long the next one waits; Wait is that wait, while its device is there.
	Take(device string, p *devices.Profile, size int64) devices.Hold
	Wait(h devices.Hold, over func() bool)
	// Overrun counts one of a device that cannot be slowed.
	Overrun(device string, p *devices.Profile, size int64)
	// Connect counts a connection; a Hold that is not zero refuses it.
	Connect(device string, p *devices.Profile) devices.Hold
	// Passed counts what another limit has refused.
	Passed(limit string, p *devices.Profile, n uint64)
}

// Sessions knows who is connected.
type Sessions interface {
	Attach(a devices.Attachment) *devices.Session
	// Online tells of a device's session.
	Online(device string) (session uint64, ok bool)
	// AttachIfAbsent leaves the session that a device has.
	AttachIfAbsent(a devices.Attachment) (session *devices.Session, attached bool)
	// Frozen returns why the device is not let in, nil if it is.
	Frozen(device string) *devices.Freeze
	// Note tells the flight recorder of a registered device.
	Note(device string, e devices.Event)
}

// Sink takes readings to the journal.
type Sink interface {
	// AppendWithin copies t into a commit and may block while the journal is behind, for no longer than ctx lives. An error
	// means that it has ended or that the hub stops, or, if it is a *wire.Error, that the journal can never take t.
	AppendWithin(ctx context.Context, device string, t *wire.Telemetry, receivedMs int64, w wire.Waiter) (gen uint64, err error)
	// Refuse counts one frame that could not be used.
	Refuse(device, reason string)
}

// Admission says when devices may come in, over all transports.
type Admission interface {
	// Admit returns nil when a device, which has proved who it is, may come in; it may wait for that for some seconds.
	Admit(ctx context.Context, device string, online bool) *devices.NotNow
	// Enter counts a connection that is ready, unless all are taken; Exit follows, when it has ended.
	Enter(online bool) *devices.NotNow
	Exit()
	// Leave says when to come back after the hub's stop.
	Leave() *devices.NotNow
}

// Hub is what a broker and a bridge need of the rest of the hub. All members are needed except Metrics, Listener and Retained; an
// external broker's bridge needs no Admission.
type Hub struct {
	Registry  Registry
	Profiles  Profiles
	Throttle  Throttle
	Sessions  Sessions
	Admission Admission
	Sink      Sink
	States    States
	Enroller  devices.Enroller      // of devices that come with an enrolment key; nil: none may
	Renewer   devices.Renewer       // gives devices new credentials
	Discovery Discovery             // of devices behind external brokers; nil: those that are not registered are counted alone
	Metrics   prometheus.Registerer // nil: no metrics
	Log       *slog.Logger

	// Listener bounds the sockets that l accepts; nil: they have no bound but their deadlines. A connection of it that has
	// a method Proved is told when its device's CONNECT was accepted.
	Listener func(l net.Listener) net.Listener

	// Retained keeps the retained messages of granted topics; nil: they are in memory only.
	Retained jetstream.KeyValue

	Certificates devices.Certificates // whose are those of devices; nil: they prove themselves by tokens only
}

// refused counts a message of a registered device that could not be used, and tells its flight recorder why.
func (h Hub) refused(device string, r *refusal) {
	if r.reason == ReasonUnknownDevice { // deleted meanwhile: it has no account any more
		h.Sink.Refuse("", r.reason)
		return
	}
	h.Sink.Refuse(device, r.reason)
	h.Sessions.Note(device, r.event())
}

// Reasons of refused messages that only MQTT has; the others are wire's.
const (
	ReasonTopic         = "topic_not_allowed"
	ReasonRetained      = "retained_without_time"
	ReasonUnknownDevice = "unknown_device"
	ReasonDisabled      = "device_disabled"
	ReasonNoSession     = "answer_without_session"
	ReasonOtherDevice   = "other_device" // CONNECT and the connection below it name two
	ReasonNotSubscribed = "not_subscribed"
	ReasonBadTopic      = "bad_topic" // not UTF-8, or with a wildcard
	ReasonEcho          = "own_message"

	ReasonSubscription     = "subscription_not_allowed"
	ReasonSubscriptions    = "too_many_subscriptions"
	ReasonRetainNotGranted = "retain_not_granted"
	ReasonRetainedFull     = "retained_full"
	ReasonMalformed        = "malformed_packet"
)

// Transports as they stand in devices.Attachment.
const (
	TransportMQTT    = "mqtt"
	TransportMQTTWSS = "mqtt+wss"
	transportBridge  = "bridge:" // and the bridge's name
)

// TransportOf returns the transport of devices behind the external broker with this name.
func TransportOf(name string) string { return transportBridge + name }
