package devices_test

import (
	"testing"
	"testing/synctest"

	"telemetryhub/wire"
)

func TestDevicesAreToldThatTheJournalWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		waiting, idle := h.dial("d1"), h.dial("d2")
		h.sink.block()
		waiting.send(`{"boot":"b","seq":1,"values":{"T":1}}`)
		<-h.sink.entered // its reader is held
		synctest.Wait()
		h.connector.JournalWaits(wire.ReasonJournalFull, "the disk is full")
		h.connector.JournalWaits(wire.ReasonHubBusy, "the same episode")
		for _, d := range []*device{waiting, idle} {
			if p := d.wantNotice("journal_full"); p["message"] != "the disk is full" || p["retry_after_ms"] != 5000.0 {
				t.Errorf("%s: %v", d.id, p)
			}
		}
		late := h.dial("d3")
		late.wantNotice("journal_full")
		synctest.Wait()
		for _, d := range []*device{waiting, idle, late} {
			d.wantNone()
		}

		h.connector.JournalGoesOn()
		h.connector.JournalGoesOn()
		for _, d := range []*device{waiting, idle, late} {
			d.wantNotice("journal_ok")
		}
		h.sink.free()
		waiting.want(ack("b", "1"))
		idle.send(`{"boot":"b","seq":1,"values":{"T":1}}`)
		idle.want(ack("b", "1"))
		synctest.Wait()
		for _, d := range []*device{waiting, idle, late} {
			d.wantNone()
		}

		h.connector.JournalWaits(wire.ReasonHubBusy, "another episode")
		idle.wantNotice("hub_busy")
	})
}

// Episodes come and go while a device reads nothing: what it has not read stays bounded.
func TestADeviceThatDoesNotReadIsNotToldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.link("d1")
		synctest.Wait()
		for range 10_000 {
			h.connector.JournalWaits(wire.ReasonHubBusy, "busy")
			h.connector.JournalGoesOn()
		}
		go d.read()
		synctest.Wait()
		if n := len(d.frames); n == 0 || n > 2000 {
			t.Errorf("%d notices were kept for a device that read nothing", n)
		}
	})
}
