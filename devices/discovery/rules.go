package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"telemetryhub/devices"
)

// Bounds of a rule.
const (
	DefaultMax = 1000 // devices that a rule may have in the registry
	MostMax    = 1_000_000
	maxPattern = 128 // bytes
)

// Rule admits devices by itself, once they are seen.
type Rule struct {
	Bridge string // that sees them; empty: any
	Device string // pattern of ids: * is any text, ? one character; empty: any
	Type   string // that they get; empty: that of the sighting
	Tags   []string
	Max    int // of its devices in the registry; 0: DefaultMax
}

// Name tells rules apart: it is what the registry keeps of the rule by which a device came.
func (r Rule) Name() string {
	return cmp.Or(r.Bridge, "*") + "/" + cmp.Or(r.Device, "*")
}

func (r Rule) max() int { return cmp.Or(r.Max, DefaultMax) }

// Check reports all faults at once, each with the member in front.
func (r Rule) Check() error {
	var faults []error
	if !isPattern(r.Device) {
		faults = append(faults, fmt.Errorf("device: %q is not a pattern of at most %d letters, digits and . _ : - with * for any text and ? for one character", r.Device, maxPattern))
	}
	if r.Max < 0 || r.Max > MostMax {
		faults = append(faults, fmt.Errorf("max: %d is not from 1 to %d", r.Max, MostMax))
	}
	// What else the registry would refuse of each of its devices.
	var wrong *devices.InvalidError
	if err := (devices.Device{ID: "any", Type: r.Type, Tags: r.Tags}).Validate(); errors.As(err, &wrong) {
		faults = append(faults, wrong)
	}
	return errors.Join(faults...)
}

// isPattern takes the characters of device ids, * and ?: with nothing else in it path.Match knows no fault.
func isPattern(pattern string) bool {
	for _, c := range []byte(pattern) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case slices.Contains([]byte("._:-*?"), c):
		default:
			return false
		}
	}
	return len(pattern) <= maxPattern
}

// rule is a Rule and how many devices it has in the registry. Guarded by the list's mu.
type rule struct {
	Rule

	has     int       // in the registry, or on the way there
	pending int       // on the way
	counted time.Time // when has was last compared with the registry
}

// takes reports whether the rule is for what was seen.
func (r *rule) takes(s *Sighting) bool {
	if r.Bridge != "" && r.Bridge != s.Bridge {
		return false
	}
	ok, err := path.Match(cmp.Or(r.Device, "*"), s.Device)
	return err == nil && ok
}
