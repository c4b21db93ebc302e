package discovery

import (
	"cmp"
	"strings"
	"time"
)

// The longest parts of a sighting that are kept, in bytes.
const (
	MaxPayload = 4 << 10
	maxTopic   = 512
	maxType    = 128 // as in the registry
	maxText    = 256
)

// Sighting is a message of, or about, a device. What is not known is empty.
type Sighting struct {
	Device   string
	Bridge   string
	Topic    string
	Payload  []byte // the list keeps a copy
	Size     int    // of the payload in bytes, where Payload is not all of it; 0: it is
	Retained bool   // the broker had it from some time before
	// Announced: the message is about the device and not of it, such as a gateway's list of what is paired with it.
	Announced bool

	Type     string // that it would be admitted with
	Name     string // that people gave it
	Model    string
	Firmware string

	At time.Time // zero: now
}

// Seen is a device on the list.
type Seen struct {
	Sighting // the last; what it did not say of type, name, model and firmware is from those before

	First time.Time
	Count uint64 // sightings
	Held  string // why the rule that is for it has not admitted it; empty: none is
}

// bounded returns the sighting as the list keeps it, with a payload of its own.
func (s Sighting) bounded() Sighting {
	s.Size = max(s.Size, len(s.Payload))
	s.Payload = append([]byte(nil), s.Payload[:min(len(s.Payload), MaxPayload)]...)
	s.Topic = cut(s.Topic, maxTopic)
	s.Type = cut(s.Type, maxType)
	s.Name, s.Model, s.Firmware = cut(s.Name, maxText), cut(s.Model, maxText), cut(s.Firmware, maxText)
	if s.At.IsZero() {
		s.At = time.Now()
	}
	s.At = s.At.UTC()
	return s
}

func cut(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.Clone(strings.ToValidUTF8(text, "")) // not a part of a large payload that it would keep
}

// add makes e what is known after one more sighting.
func (e *Seen) add(s Sighting) {
	s.Type, s.Name = cmp.Or(s.Type, e.Type), cmp.Or(s.Name, e.Name)
	s.Model, s.Firmware = cmp.Or(s.Model, e.Model), cmp.Or(s.Firmware, e.Firmware)
	if e.Count == 0 {
		e.First = s.At
	}
	e.Sighting = s
	e.Count++
}
