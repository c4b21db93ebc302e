package readings

import "strconv"

// Source gives the values of one device's readings. Implementations hold nothing that changes, so that the device and
// the judge may use one at the same time.
type Source interface {
	// Names are the fields that each reading has, in the order of Values.
	Names() []string
	// Values appends the values of reading n as the store must give them back.
	Values(dst []float64, n uint64) []float64
	// AppendValues appends the same as a JSON object.
	AppendValues(dst []byte, n uint64) []byte
}

// The fields by which the judge tells the readings of a run apart; only made-up readings bear them.
const (
	FieldNumber = "n"
	FieldRun    = "run"
)

// appendNumber appends the shortest text that reads back as exactly f.
func appendNumber(dst []byte, f float64) []byte {
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// appendFixed appends v / 10^decimals as a decimal number. Division of two integers that float64 holds exactly rounds
// as the reading of that text does, so the judge may compute float64(v)/10^decimals and compare with ==.
func appendFixed(dst []byte, v int64, decimals int) []byte {
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	scale := int64(1)
	for range decimals {
		scale *= 10
	}
	dst = strconv.AppendInt(dst, v/scale, 10)
	dst = append(dst, '.')
	for rest := v % scale; scale > 1; rest %= scale {
		scale /= 10
		dst = append(dst, byte('0'+rest/scale))
	}
	return dst
}
