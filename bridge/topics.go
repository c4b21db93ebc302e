package bridge

import (
	"strings"

	"telemetryhub/wire"
)

// ownPrefix is where the embedded broker's topics begin; external brokers may have another.
const ownPrefix = "devices"

// subject is what a message is about, by the last part of its topic.
type subject string

const (
	subjectTelemetry subject = "telemetry"
	subjectEvent     subject = "event"
	subjectResponse  subject = "response"
	subjectState     subject = "state"
	subjectCommand   subject = "command"
	subjectDesired   subject = "desired"

	// Of the embedded broker alone, which is who proves devices: what a device asks for, and what it is given.
	subjectCredentials subject = "credentials"
	subjectIssued      subject = "issued"
)

// splitTopic takes PREFIX/DEVICE/SUBJECT apart. It does not check that the subject is one that devices publish.
func splitTopic(prefix, topic string) (device string, s subject, ok bool) {
	rest, found := strings.CutPrefix(topic, prefix+"/")
	if !found {
		return "", "", false
	}
	device, last, found := strings.Cut(rest, "/")
	if !found || wire.CheckDeviceID(device) != nil {
		return "", "", false
	}
	return device, subject(last), true
}

func joinTopic(prefix, device string, s subject) string {
	return prefix + "/" + device + "/" + string(s)
}

// fromDevice reports whether a device publishes on s.
func (s subject) fromDevice() bool {
	switch s {
	case subjectTelemetry, subjectEvent, subjectResponse, subjectState:
		return true
	}
	return false
}

// filterAllowed reports whether device may subscribe to filter: one that can match nothing but what the hub sends to
// this device. DEVICE is one level without wildcards, for a device id holds neither + nor #.
func filterAllowed(device, filter string) bool {
	rest, found := strings.CutPrefix(filter, ownPrefix+"/"+device+"/")
	if !found {
		return false
	}
	switch rest {
	case "#", "+", string(subjectCommand), string(subjectDesired), string(subjectIssued):
		return true
	}
	return false
}

// filterMatches reports whether an allowed filter of a device matches its topic about s.
func filterMatches(filter string, s subject) bool {
	last := filter[strings.LastIndexByte(filter, '/')+1:]
	return last == "#" || last == "+" || last == string(s)
}
