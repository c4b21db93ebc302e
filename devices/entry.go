package devices

import "maps"

// Entry is one device of an import. What is nil is not said: a new device goes without it, one that exists keeps it.
type Entry struct {
	ID         string             `json:"id"`
	Type       *string            `json:"type"`
	Tags       *[]string          `json:"tags"`
	Attributes map[string]*string `json:"attributes"` // merged (RFC 7396): nil removes one
	Enabled    *bool              `json:"enabled"`
}

// set makes d what e says, in maps of its own.
func (e Entry) set(d *Device) {
	if e.Type != nil {
		d.Type = *e.Type
	}
	if e.Tags != nil {
		d.Tags = *e.Tags
	}
	if e.Enabled != nil {
		d.Enabled = *e.Enabled
	}
	if len(e.Attributes) == 0 {
		return
	}
	merged := maps.Clone(d.Attributes)
	if merged == nil {
		merged = map[string]string{}
	}
	for name, value := range e.Attributes {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = *value
		}
	}
	d.Attributes = merged
}
