package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLagIsTheAgeOfTheOldestMessageThatIsNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTraffic("hub_bridge")
		f.connected(true)
		f.received(time.Now())
		time.Sleep(3 * time.Second)
		f.received(time.Now())
		time.Sleep(time.Second)
		if p := f.pace(time.Now()); p.Lag != 4*time.Second || p.Ack50 != 0 || p.PerSecond != 0.2 {
			t.Errorf("with two in flight: %+v", p)
		}
		f.acknowledged(3, time.Now())
		if p := f.pace(time.Now()); p.Lag != time.Second || p.Ack50 != 4*time.Second || p.AckMax != 4*time.Second {
			t.Errorf("with one in flight: %+v", p)
		}
		f.connected(false)
		f.acknowledged(1, time.Now()) // late: of the connection that has ended
		if p := f.pace(time.Now()); p.Lag != 0 || p.AckMax != 4*time.Second {
			t.Errorf("without a connection: %+v", p)
		}
		if n := f.readings.Load(); n != 4 {
			t.Errorf("%d readings", n)
		}
		time.Sleep(rateSeconds * time.Second)
		if p := f.pace(time.Now()); p.PerSecond != 0 {
			t.Errorf("later: %+v", p)
		}
		if up, since := f.connection(); up || time.Since(since) != rateSeconds*time.Second {
			t.Errorf("connected %v since %s", up, since)
		}
	})
}

func TestTimesToAcknowledgeAreOfTheLast(t *testing.T) {
	f := newTraffic("hub_bridge")
	at := time.Now()
	for n := range 1000 {
		f.received(at)
		f.acknowledged(0, at.Add(time.Duration(n)*time.Millisecond))
	}
	if p := f.pace(at); p.AckMax != 999*time.Millisecond || p.Ack50 != 743*time.Millisecond || p.Ack99 != 994*time.Millisecond {
		t.Errorf("%+v", p) // of 488 to 999
	}
}

func TestExamplesOfRefusedMessagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTraffic("hub_bridge")
		payload := bytes.Repeat([]byte("x"), 5000)
		for n := range 100 {
			time.Sleep(time.Second)
			m := message{topic: fmt.Sprintf("%d/%s", n, strings.Repeat("t", 1000)), payload: payload}
			f.refused(m, len(payload), "", &refusal{reason: ReasonTopic, message: "no"})
			f.refused(m, 0, "stranger", &refusal{reason: ReasonUnknownDevice})
		}
		payload[0] = 'y' // the example is its own
		all := f.shown()
		if len(all) != examplesOfOne || !strings.HasPrefix(all[0].Topic, "99/") || !strings.HasPrefix(all[4].Topic, "95/") {
			t.Fatalf("%d examples", len(all))
		}
		if e := all[0]; len(e.Payload) != examplePayload || e.Payload[0] != 'x' || e.Size != 5000 || len(e.Topic) != exampleTopic || e.Reason != ReasonTopic || !e.At.Equal(time.Now()) {
			t.Errorf("%d bytes of %d, topic of %d, %s at %s", len(e.Payload), e.Size, len(e.Topic), e.Reason, e.At)
		}
		for n := range 100 {
			time.Sleep(time.Second)
			f.refused(message{topic: "t"}, 0, "d", &refusal{reason: fmt.Sprint(n)})
		}
		all = f.shown()
		if len(all) != exampleReasons || all[0].Reason != "99" || all[exampleReasons-1].Reason != "84" {
			t.Errorf("%d examples, from %+v to %+v", len(all), all[0], all[len(all)-1])
		}
	})
}
