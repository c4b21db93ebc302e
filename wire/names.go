package wire

// CheckFieldName returns why no field can have this name, "" if one can.
func CheckFieldName(name string) (reason string) { return checkFieldName([]byte(name)) }

// IsMeasurement reports whether a measurement can have this name: 1 to MaxMeasurement bytes without control characters
// and backslashes, and not # first, which makes a line of line protocol a comment.
func IsMeasurement(name []byte) bool {
	return len(name) > 0 && len(name) <= MaxMeasurement && writable(name) && name[0] != '#'
}
