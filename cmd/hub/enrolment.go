package main

import (
	"context"
	"errors"
	"net"
	"time"

	"telemetryhub/auth/acts"
	"telemetryhub/backbone"
	"telemetryhub/devices/enrolment"
)

// openEnrolment comes after what is to be cleared of an earlier device, and before any device is let in.
func (h *hub) openEnrolment(ctx context.Context) error {
	kv, err := h.bus.Bucket(ctx, backbone.Enrolment)
	if err != nil {
		return err
	}
	h.enrolment, err = enrolment.Open(ctx, kv, h.registry, enrolment.Config{
		Alone:   h.cfg.NATS.URL == "",
		Sign:    h.authority.Issue,
		Clear:   h.clearDevice,
		Ready:   h.acts.Err,
		Record:  func(ctx context.Context, e enrolment.Event) error { return h.acts.Append(ctx, actOfEnrolment(e)) },
		Refused: func(e enrolment.Event) { h.acts.Note(actOfEnrolment(e)) },
		Metrics: h.reg, Log: h.log,
	})
	if err != nil {
		return err
	}
	h.stop.add("enrolment keys", h.enrolment.Close)
	return nil
}

// clearTimeout is that of one write of the ledger.
const clearTimeout = 10 * time.Second

// clearDevice removes what may be left of a device that had this id, because the hub ended in the middle of its deletion.
func (h *hub) clearDevice(ctx context.Context, device string) {
	ctx, cancel := context.WithTimeout(ctx, clearTimeout)
	defer cancel()
	err := errors.Join(h.states.Forget(ctx, device), h.commands.Abandon(ctx, device, "", "the device was deleted"))
	if err != nil {
		h.log.Warn("what was left of a deleted device is not yet removed", "device", device, "err", err)
	}
}

// actOfEnrolment is an enrolment as the audit log tells of it. Its actor is the key, which is no operator.
func actOfEnrolment(e enrolment.Event) acts.Act {
	a := acts.Act{
		Time: time.Now(), Role: "enrolment key", Origin: hostOf(e.Remote), Act: "device.enrol", Device: e.Device, Target: e.Key.ID,
		Facts: map[string]any{"transport": e.Transport}, Outcome: acts.Accepted, Suppressed: e.Suppressed,
	}
	if e.Key.Name != "" {
		a.Facts["key"] = e.Key.Name
	}
	if e.Again {
		a.Facts["again"] = true
	}
	if e.Cert != "" {
		a.Facts["certificate"] = e.Cert
	}
	if e.Reason != "" {
		a.Outcome, a.Reason, a.Detail = acts.Refused, e.Reason, e.Message
	}
	return a
}

// hostOf is an address without its port.
func hostOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}
