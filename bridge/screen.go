package bridge

import paho "github.com/eclipse/paho.mqtt.golang"

// screen settles what is no message of a device at all. A broker that hands on a topic that is none breaks the protocol
// (MQTT 3.1.1 sections 1.5.3 and 3.3.2), and the rule for that is to end the connection: but the broker would send it
// again on the next, and one bad publisher would stop all others.
func (l *line) screen(in paho.Message) (taken bool, err error) {
	e := l.external
	of, again := e.receipts.begin(in)
	l.mu.Lock()
	l.receipt = of
	l.mu.Unlock()
	if again {
		l.mu.Lock()
		l.receipt = nil
		l.mu.Unlock()
		held := l.hold(in)
		e.receipts.whenSettled(of, func() { l.release(held) })
		return true, nil
	}
	if err := CheckTopic(in.Topic()); err != nil {
		return true, l.refuse(in, "", &refusal{reason: ReasonBadTopic, message: err.Error()})
	}
	if e.maps != nil && e.maps.Ignores(in.Topic()) { // what the hub has published itself, as a rule
		e.metrics.passed.Inc()
		l.settle(in)
		return true, nil
	}
	if e.echoes.heard(in.Topic(), in.Payload()) {
		return true, l.refuse(in, "", &refusal{reason: ReasonEcho, message: "the hub has published this itself"})
	}
	return false, nil
}
