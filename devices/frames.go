package devices

import (
	"encoding/json"
	"errors"
	"time"

	"telemetryhub/wire"
)

// handle does what the frame in s says. It is the one place where methods are named.
func (n *conn) handle(s *scratch) {
	f, err := s.decoder.Decode(s.frame, s.dialect)
	if err != nil {
		n.refuseErr(f.ID, err)
		return
	}
	if u := n.unconfirmed.Load(); u != nil && n.confirming(u, f) {
		return
	}
	if n.session.Renews() && !isForRenewal(f) {
		n.refuse(f.ID, ExpiredError())
		return
	}
	switch f.Kind {
	case wire.KindTelemetry:
		err = s.decoder.DecodeBare(f.Params, &s.telemetry)
		if err == nil {
			n.take(s, nil)
		}
	case wire.KindPack:
		err = s.decoder.DecodePack(f.Params, n.device, &s.telemetry)
		if err == nil {
			n.session.LearnUnits(s.telemetry.Units)
			n.take(s, nil)
		}
	case wire.KindAnswer:
		n.speaks.Store(true)
		var a wire.Answer
		if a, err = f.Answer(); err == nil {
			n.session.Answer(a)
		}
	default:
		err = n.call(s, f)
	}
	if err != nil {
		n.refuseErr(f.ID, err)
	}
}

// call does what a request or notification asks for.
func (n *conn) call(s *scratch, f wire.Frame) error {
	switch string(f.Method) {
	case "telemetry":
		if err := s.decoder.DecodeTelemetry(f.Params, &s.telemetry); err != nil {
			return err
		}
		n.take(s, f.ID)
		return nil
	case "event":
		if err := s.decoder.DecodeEventParams(f.Params, &s.telemetry); err != nil {
			return err
		}
		n.take(s, f.ID)
		return nil
	case "hello":
		return n.hello(f)
	case "state":
		return n.report(f)
	case "credentials":
		return n.renew(f)
	case "progress":
		p, err := wire.DecodeProgress(f.Params)
		if err == nil {
			n.session.Progress(p)
			n.answer(f.ID, struct{}{})
		}
		return err
	}
	return &wire.Error{Code: wire.CodeMethodNotFound, Reason: wire.ReasonUnknownMethod, Message: "unknown method " + string(f.Method) + "; the hub knows hello, telemetry, event, state, progress, credentials"}
}

func (n *conn) hello(f wire.Frame) error {
	h, err := wire.DecodeHello(f.Params)
	if err != nil {
		return err
	}
	if n.session.Renews() {
		n.helloAside(f.ID)
		return nil
	}
	n.speaks.Store(true)
	n.session.Describe(h.Firmware, h.Model)
	n.session.Announce(h.Methods)
	if h.Time != 0 {
		n.session.LearnClock(h.Time)
	}
	n.acksFor = h.Ack
	n.out.limit(h.MaxFrame)
	w := wire.Welcome{Device: n.device, Session: n.session.ID(), Time: time.Now().UnixMilli(), MaxFrame: int(n.profile().Limits.MaxFrame), Pending: n.session.Pending()}
	if h.Boot != "" {
		w.Ack = n.recall(h.Boot)
	}
	if h.KeepaliveS > 0 {
		const day = 24 * 60 * 60 // longer is none of the bounds
		n.agree(time.Duration(min(h.KeepaliveS, day)) * time.Second)
	}
	w.KeepaliveS = int(time.Duration(n.keepalive.Load()).Seconds())
	n.welcome(f.ID, w, h.MaxFrame)
	return nil
}

// answer answers a request; a notification gets none.
func (n *conn) answer(id []byte, result any) {
	if id == nil {
		return
	}
	text, err := json.Marshal(result)
	if err != nil {
		n.hub.log.Error("encode an answer", "err", err)
		return
	}
	n.out.frame(func(dst []byte) []byte { return wire.AppendResult(dst, id, text) })
}

func (n *conn) refuseErr(id []byte, err error) {
	var e *wire.Error
	if !errors.As(err, &e) {
		n.hub.log.Error("handle a frame", "device", n.device, "err", err)
		e = &wire.Error{Code: wire.CodeInternal, Reason: "internal", Message: "the hub failed to handle the frame"}
	}
	n.refuse(id, e)
}
