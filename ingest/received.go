package ingest

import "telemetryhub/wire"

// The time of receipt is in the journal for as long as that keeps an envelope, and in the quarantine. Where an operator
// names a field for it (Config.ReceivedField), the store has it too, as ms in an integer: then a clock that was wrong can
// be seen, and mended, years later. It is the first receipt, also of a reading that is retried or replayed.

// addReceived adds the field to a reading that is to be stored, unless its device uses that name.
func addReceived(r *wire.Reading, name []byte, received int64) {
	if len(name) == 0 || r.Flaw != "" {
		return
	}
	for i := range r.Fields {
		if string(r.Fields[i].Name) == string(name) {
			return
		}
	}
	r.Fields = append(r.Fields, wire.Field{Name: name, Kind: wire.Float, Number: float64(received)})
}

// ownType is what the device's type says of a field; that of the time of receipt is the hub's.
func (c *Config) ownType(device, field string) FieldType {
	switch {
	case c.ReceivedField != "" && field == c.ReceivedField:
		return IntegerField
	case c.FieldType == nil:
		return ""
	}
	return c.FieldType(device, field)
}
