package ingest

import (
	"strconv"

	"telemetryhub/wire"
)

// appendLine appends one point in line protocol, at a time in ns. Names were checked when they were decoded: they have
// no control characters and no backslashes, which cannot be written there. Numbers are floats, so that 20 and 20.5 of
// one field do not conflict, except where types, one a field or none at all, says integer.
func appendLine(dst []byte, device, measurement []byte, r *wire.Reading, types []FieldType, at int64) []byte {
	if len(measurement) == 0 {
		dst = append(dst, wire.DefaultMeasurement...)
	} else {
		dst = appendMeasurement(dst, measurement)
	}
	dst = append(dst, ",device="...)
	dst = append(dst, device...) // an id holds nothing that needs escaping
	for i := range r.Fields {
		f := &r.Fields[i]
		if i == 0 {
			dst = append(dst, ' ')
		} else {
			dst = append(dst, ',')
		}
		dst = appendName(dst, f.Name)
		dst = append(dst, '=')
		switch f.Kind {
		case wire.Float:
			if types != nil && types[i] == IntegerField {
				dst = append(strconv.AppendInt(dst, int64(f.Number), 10), 'i')
			} else {
				dst = strconv.AppendFloat(dst, f.Number, 'g', -1, 64)
			}
		case wire.String:
			dst = appendString(dst, f.Text)
		case wire.True:
			dst = append(dst, "true"...)
		default:
			dst = append(dst, "false"...)
		}
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, at, 10)
	return append(dst, '\n')
}

// appendMeasurement escapes what a measurement's name must: the backslash before = would become part of it.
func appendMeasurement(dst, name []byte) []byte {
	for _, c := range name {
		if c == ',' || c == ' ' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

func appendName(dst, name []byte) []byte {
	for _, c := range name {
		if c == ',' || c == '=' || c == ' ' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

func appendString(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
