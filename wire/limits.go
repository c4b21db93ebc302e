package wire

import "fmt"

// Limits of what one frame may hold. The size of a frame itself is the operator's (DefaultMaxFrame); the others are
// fixed, so that a device can rely on them.
const (
	DefaultMaxFrame = 64 << 10 // bytes of one frame
	HardMaxFrame    = 16 << 20 // bytes; above it the connection ends with close code 1009

	MaxDeviceID    = 64         // bytes of a device id
	MaxSeq         = 1<<53 - 1  // the largest integer that every JSON number holds (RFC 7493 section 2.2)
	MaxBoot        = 64         // bytes of a boot
	MaxMethod      = 128        // bytes of a method's name
	MaxFrameID     = 128        // bytes of a JSON-RPC id as it stands in the frame
	MaxMeasurement = 128        // bytes of a measurement's name
	MaxFieldName   = 256        // bytes of a field's name, joined by dots
	MaxUnit        = 64         // bytes of a unit's symbol
	MaxString      = 64<<10 - 1 // bytes of a string value; what InfluxDB's string fields hold
	MaxFields      = 512        // fields of one reading
	MaxReadings    = 10_000     // readings of one frame
	MaxDepth       = 16         // objects within objects in values
)

// DefaultMeasurement is where a reading goes that names no measurement.
const DefaultMeasurement = "telemetry"

// CheckDeviceID reports whether id is 1 to 64 of [A-Za-z0-9._:-], and not "." or "..", which no URL path can name (RFC
// 3986 section 5.2.4).
func CheckDeviceID(id string) error {
	if id == "" {
		return fmt.Errorf("a device id is empty; it is 1 to %d of A-Z a-z 0-9 . _ : -", MaxDeviceID)
	}
	if len(id) > MaxDeviceID {
		return fmt.Errorf("a device id of %d bytes is longer than %d", len(id), MaxDeviceID)
	}
	if id == "." || id == ".." {
		return fmt.Errorf("device id %q cannot stand in a URL", id)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return fmt.Errorf("device id %q has %q at byte %d; allowed are A-Z a-z 0-9 . _ : -", id, c, i)
		}
	}
	return nil
}
