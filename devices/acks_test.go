package devices_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"telemetryhub/wire"
)

func TestTelemetryIsAnsweredAndAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(`{"boot":"b"}`)
		for _, c := range []struct {
			send string
			want []string
		}{
			{`{"jsonrpc":"2.0","id":1,"method":"telemetry","params":{"values":{"T":1}}}`, []string{result("1")}},
			{`{"id":"x","method":"telemetry","params":{"seq":1,"readings":[{"values":{"T":1}},{"ts":1458031648545,"values":{"T":2}}]}}`, []string{result(`"x"`), ack("b", "2")}},
			{`{"method":"telemetry","params":{"seq":3,"values":{"T":3}}}`, []string{ack("b", "3")}},
			{`{"method":"telemetry","params":{"boot":"other","seq":1,"values":{"T":4}}}`, []string{ack("other", "1")}},
			{`{"seq":2,"values":{"T":5}}`, []string{ack("other", "2")}},
			{`{"id":3,"method":"event","params":{"name":"door"}}`, []string{result("3")}},
			{`{"method":"event","params":{"name":"door"}}`, nil},
			{`{"T":6}`, nil},
		} {
			d.send(c.send)
			d.want(c.want...)
			synctest.Wait()
			d.wantNone()
		}
		wantLines(t, h.sink.lines(),
			`d1  boot=b seq=0 {"values":{"T":1}}`,
			`d1  boot=b seq=1 {"values":{"T":1}} {"ts":1458031648545,"values":{"T":2}}`,
			`d1  boot=b seq=3 {"seq":3,"values":{"T":3}}`,
			`d1  boot=other seq=1 {"boot":"other","seq":1,"values":{"T":4}}`,
			`d1  boot=other seq=2 {"seq":2,"values":{"T":5}}`,
			`d1 event boot=other seq=0 {"name":"door"}`,
			`d1 event boot=other seq=0 {"name":"door"}`,
			`d1  boot=other seq=0 {"T":6}`,
		)
		if got := h.sink.refusals(); len(got) != 0 {
			t.Errorf("refused %v", got)
		}
	})
}

// Nothing is said before the commit, and then all of it at once: each request its answer, one ack for each boot.
func TestAcksComeAfterTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.inside = false
		d, other := h.dial("d1"), h.dial("d2")
		d.hello(`{"boot":"b"}`)
		d.send(
			`{"seq":1,"values":{"T":1}}`, `{"id":7,"method":"telemetry","params":{"seq":2,"values":{"T":2}}}`,
			`{"seq":3,"values":{"T":3}}`, `{"boot":"c","seq":1,"values":{"T":4}}`, `{"boot":"c","seq":2,"values":{"T":5}}`,
		)
		other.send(`{"id":8,"method":"telemetry","params":{"values":{"T":1}}}`)
		synctest.Wait()
		d.wantNone()
		other.wantNone()

		h.sink.commit()
		synctest.Wait()
		d.want(result("7"), ack("b", "3"), ack("c", "2"))
		d.wantNone()
		other.want(result("8"))

		d.send(`{"seq":3,"values":{"T":6}}`)
		synctest.Wait()
		d.wantNone() // what is durable does not cover what came after it
		h.sink.commit()
		d.want(ack("c", "3"))
	})
}

// A commit that fails, because the hub stops, acks nothing; the device sends it again.
func TestAFailedCommitAcksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.inside = false
		d := h.dial("d1")
		d.hello(`{"boot":"b"}`)
		d.send(`{"id":1,"method":"telemetry","params":{"seq":1,"values":{"T":1}}}`)
		synctest.Wait()
		h.sink.set(func(s *sink) { s.commitLocked(errDiskFull) })
		synctest.Wait()
		d.wantNone()
	})
}

// The ledger takes no frame any more: a request is told so, with when to try again, a notification nothing.
func TestAppendFailsAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		h.sink.set(func(s *sink) { s.err = errDiskFull })
		d.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`, `{"seq":1,"values":{"T":1}}`)
		if data := d.wantError("1", -32000, "hub_stopping"); data["retry_after_ms"] == nil {
			t.Errorf("data %v says not when to come back", data)
		}
		synctest.Wait()
		d.wantNone()
		if got := h.sink.refusals(); len(got) != 0 {
			t.Errorf("refused %v: the device sends it again", got)
		}
	})
}

// gapAndFlaw is what must be told before the ack that passes it.
func gapAndFlaw(t *testing.T, d *device) {
	t.Helper()
	if p := d.wantNotice("seq_gap"); p["from"] != 2.0 || p["to"] != 4.0 || !strings.Contains(fmt.Sprint(p["message"]), "boot b") {
		t.Errorf("notice %v, want 2 to 4 of boot b", p)
	}
	if p := d.wantNotice("quarantined"); p["seq"] != 6.0 || p["message"] != "bad_value" {
		t.Errorf("notice %v, want seq 6 bad_value", p)
	}
	if p := d.wantNotice("quarantined"); p["seq"] != 7.0 || p["message"] != "time_future" {
		t.Errorf("notice %v, want seq 7 time_future", p)
	}
}

func TestNoticesComeBeforeTheAck(t *testing.T) {
	for name, inside := range map[string]bool{"commit within Append": true, "commit later": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				h.sink.durable["d1 b"] = 1
				h.sink.inside = inside
				h.sink.flaw = func(f *wire.Telemetry) {
					if len(f.Readings) == 3 {
						f.Readings[2].Flaw = "time_future" // a limit of the journal's
					}
				}
				d := h.dial("d1")
				if got := d.hello(`{"boot":"b"}`)["ack"]; got != 1.0 {
					t.Errorf("hello's ack is %v, want 1", got)
				}
				d.send(`{"id":1,"method":"telemetry","params":{"seq":5,"readings":[{"values":{"T":1}},{"values":{"T":[]}},{"values":{"T":1}}]}}`)
				gapAndFlaw(t, d)
				if !inside {
					synctest.Wait()
					d.wantNone()
					h.sink.commit()
				}
				d.want(result("1"), ack("b", "7"))

				// A number of a gap comes after all: no gap is told, and the ack goes not back.
				d.send(`{"seq":3,"values":{"T":1}}`)
				synctest.Wait()
				if !inside {
					h.sink.commit()
				}
				d.want(ack("b", "7"))
				synctest.Wait()
				d.wantNone()
			})
		})
	}
}

// What fills a gap in the commit of what came before it leaves the ack where it was.
func TestAckIsTheHighestOfTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.inside = false
		d := h.dial("d1")
		d.hello(`{"boot":"b"}`)
		d.send(`{"seq":9,"values":{"T":1}}`, `{"seq":1,"values":{"T":1}}`)
		d.wantNotice("seq_gap")
		synctest.Wait()
		h.sink.commit()
		d.want(ack("b", "9"))
	})
}

// A seq without a boot tells no gap, and its ack the number.
func TestSeqWithoutBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.send(`{"seq":5,"values":{"T":1}}`, `{"seq":9,"values":{"T":1}}`, `{"seq":2,"values":{"T":1}}`)
		d.want(ack("", "5"), ack("", "9"), ack("", "2"))
	})
}

// A frame that the journal cannot take is refused; its numbers are a gap to the ack that comes after them.
func TestAFrameRefusedByTheJournalIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(`{"boot":"b"}`)
		h.sink.set(func(s *sink) {
			s.err = &wire.Error{Code: wire.CodeInvalidParams, Reason: wire.ReasonBadParams, Message: "too large for the journal"}
		})
		d.send(`{"seq":1,"readings":[{"values":{"T":1}},{"values":{"T":2}}]}`)
		d.wantError("null", -32602, "bad_params")
		h.sink.set(func(s *sink) { s.err = nil })
		d.send(`{"seq":3,"values":{"T":3}}`)
		if p := d.wantNotice("seq_gap"); p["from"] != 1.0 || p["to"] != 2.0 {
			t.Errorf("notice %v, want 1 to 2", p)
		}
		d.want(ack("b", "3"))
		wantLines(t, h.sink.refusals(), "d1 bad_params")
	})
}

// A gap was told to a connection that broke before the device read it: the next one is told before an ack passes it.
func TestOpenGapsAreToldBeforeTheAckThatPassesThem(t *testing.T) {
	wantGap := func(t *testing.T, d *device, from, to float64) {
		t.Helper()
		if p := d.wantNotice("seq_gap"); p["from"] != from || p["to"] != to || !strings.Contains(fmt.Sprint(p["message"]), "boot b") {
			t.Errorf("notice %v, want %v to %v of boot b", p, from, to)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.durable["d1 b"] = 9
		h.sink.gaps = map[string][][2]uint64{"d1 b": {{2, 4}, {7, 7}}}

		d := h.dial("d1")
		d.send(`{"id":1,"method":"hello","params":{"boot":"b"}}`)
		wantGap(t, d, 2, 4)
		wantGap(t, d, 7, 7)
		if got := d.next(); !strings.Contains(got, `"ack":9`) {
			t.Errorf("answer %s, want ack 9", got)
		}
		d.send(`{"seq":10,"values":{"T":1}}`)
		d.want(ack("b", "10"))

		silent := h.dial("d1") // says no hello
		silent.send(`{"boot":"b","seq":10,"values":{"T":1}}`)
		wantGap(t, silent, 2, 4)
		wantGap(t, silent, 7, 7)
		silent.want(ack("b", "10"))
		silent.send(`{"boot":"new","seq":1,"values":{"T":1}}`, `{"boot":"b","seq":11,"values":{"T":1}}`)
		silent.want(ack("new", "1"), ack("b", "11")) // told once a connection
		synctest.Wait()
		silent.wantNone()
	})
}

// What the connection before had on its way is durable only now: the hello that comes again names its gap too.
func TestASecondHelloTellsWhatBecameDurableMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.durable["d1 b"] = 1
		d := h.dial("d1")
		if got := d.hello(`{"boot":"b"}`); got["ack"] != 1.0 {
			t.Errorf("welcome %v, want ack 1", got)
		}
		h.sink.set(func(s *sink) {
			s.durable["d1 b"], s.gaps = 5, map[string][][2]uint64{"d1 b": {{2, 4}}}
		})
		d.send(`{"id":2,"method":"hello","params":{"boot":"b"}}`)
		if p := d.wantNotice("seq_gap"); p["from"] != 2.0 || p["to"] != 4.0 {
			t.Errorf("notice %v, want 2 to 4", p)
		}
		if got := d.next(); !strings.Contains(got, `"ack":5`) {
			t.Errorf("answer %s, want ack 5", got)
		}
	})
}

func TestAckCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.inside = false
		d := h.dial("d1")
		d.hello(`{"ack":true}`)
		d.send(`{"T":1}`, `{"T":2}`, `{"method":"event","params":{"name":"e"}}`,
			`{"seq":1,"values":{"T":3}}`, `{"id":1,"method":"telemetry","params":{"values":{"T":4}}}`, `{"T":`)
		d.wantError("null", -32700, "bad_json")
		synctest.Wait()
		d.wantNone()
		h.sink.commit()
		d.want(ack("", "1"), result("1"), `{"jsonrpc":"2.0","method":"hub.ack","params":{"count":3}}`)
		d.send(`{"T":5}`)
		synctest.Wait()
		h.sink.commit()
		d.want(`{"jsonrpc":"2.0","method":"hub.ack","params":{"count":4}}`)
	})
}

// While the journal is behind, what is durable already is acked: else a device that keeps few frames in flight and the
// journal would wait for each other.
func TestAcksGoOutWhileAppendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.inside = false
		d := h.dial("d1")
		d.hello(`{"boot":"b"}`)
		d.send(`{"seq":1,"values":{"T":1}}`)
		synctest.Wait()
		h.sink.block()
		d.send(`{"seq":2,"values":{"T":2}}`)
		<-h.sink.entered
		h.sink.commit()
		synctest.Wait()
		d.want(ack("b", "1"))
		h.sink.free()
		synctest.Wait()
		d.wantNone()
		h.sink.commit()
		d.want(ack("b", "2"))
	})
}

func TestHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.durable["d1 b"] = 41
		d := h.dial("d1")
		for _, c := range []struct {
			params    string
			ack       any
			keepalive float64
		}{
			{`{}`, nil, 45},
			{`{"boot":"b","firmware":"1.4.2","model":"climate-2","attributes":{"a":1},"methods":["ping"],"time":1458031648545,"max_frame":16384}`, 41.0, 45},
			{`{"boot":"unknown"}`, nil, 45},
			{`{"keepalive_s":60}`, nil, 60},
			{`{"keepalive_s":1}`, nil, 10},
			{`{"keepalive_s":1000000}`, nil, 900},
			{`{"keepalive_s":9223372036854775807}`, nil, 900},
			{`{}`, nil, 900}, // as agreed before
		} {
			got := d.hello(c.params)
			if got["device"] != "d1" || got["session"] != float64(h.session("d1")) || got["max_frame"] != float64(maxFrame) || got["pending"] != 3.0 {
				t.Errorf("hello %s: %v", c.params, got)
			}
			if got["ack"] != c.ack || got["keepalive_s"] != c.keepalive {
				t.Errorf("hello %s: ack %v, keepalive_s %v, want %v, %v", c.params, got["ack"], got["keepalive_s"], c.ack, c.keepalive)
			}
		}
		if p := h.sessions.Presence("d1"); p.Firmware != "" || p.Model != "" {
			t.Errorf("a later hello without them left %q %q", p.Firmware, p.Model)
		}
		d.hello(`{"firmware":"1.4.2","model":"climate-2"}`)
		if p := h.sessions.Presence("d1"); p.Firmware != "1.4.2" || p.Model != "climate-2" {
			t.Errorf("presence says %q %q", p.Firmware, p.Model)
		}
		d.send(`{"method":"hello"}`, `{"id":1,"method":"hello","params":{"boot":5}}`)
		d.wantError("1", -32602, "bad_params")
		synctest.Wait()
		d.wantNone()
		// The hub's clock is in ms.
		var now struct{ Result struct{ Time int64 } }
		d.send(`{"id":2,"method":"hello"}`)
		if err := json.Unmarshal([]byte(d.next()), &now); err != nil || now.Result.Time != 946684800000 {
			t.Errorf("time %d, want that of the bubble, 946684800000", now.Result.Time)
		}
	})
}

// A device that sends its old queue between new readings: what came of the other boot is remembered though it is not
// durable yet.
func TestTwoBootsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.inside = false
		d := h.dial("d1")
		d.send(`{"boot":"old","seq":1,"values":{"T":1}}`, `{"boot":"new","seq":1,"values":{"T":1}}`,
			`{"boot":"old","seq":2,"values":{"T":1}}`, `{"boot":"new","seq":2,"values":{"T":1}}`)
		synctest.Wait()
		d.wantNone() // no gap
		h.sink.commit()
		d.want(ack("old", "1"), ack("new", "1"), ack("old", "2"), ack("new", "2"))
	})
}
