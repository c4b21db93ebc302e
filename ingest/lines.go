package ingest

import (
	"strconv"

	"telemetryhub/wire"
)

// appendLine appends one point in line protocol with its time in ms. Names were checked when they were decoded: they
// have no control characters and no backslashes, which cannot be written there. Numbers are floats, so that 20 and
// 20.5 of one field do not conflict.
func appendLine(dst []byte, device, measurement []byte, r *wire.Reading) []byte {
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
			dst = strconv.AppendFloat(dst, f.Number, 'g', -1, 64)
		case wire.String:
			dst = appendString(dst, f.Text)
		case wire.True:
			dst = append(dst, "true"...)
		default:
			dst = append(dst, "false"...)
		}
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, r.Time, 10)
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
