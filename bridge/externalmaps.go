package bridge

import (
	"errors"
	"fmt"

	"telemetryhub/bridge/maps"
)

// compileMaps returns the broker's maps, nil where it has none. It proves their examples.
func (c ExternalConfig) compileMaps() (*maps.Set, error) {
	if len(c.Maps) == 0 {
		if c.Foreign {
			return nil, errors.New("foreign: without maps and presets there is nothing to subscribe to")
		}
		return nil, nil //nolint:nilnil // there are none
	}
	set, err := maps.Compile(c.Maps)
	if err != nil {
		return nil, fmt.Errorf("maps: %w", err)
	}
	if !c.Foreign {
		for _, s := range []subject{subjectTelemetry, subjectEvent, subjectState, subjectResponse} {
			if name, meets := set.Meets(joinTopic(c.Prefix, "+", s)); meets {
				return nil, fmt.Errorf("maps: the topics of %s are also the hub's own, %s: leave them out by except, or set another prefix", name, joinTopic(c.Prefix, "{device}", s))
			}
		}
	}
	if c.Share != "" {
		if err := set.CheckSplit(); err != nil {
			return nil, fmt.Errorf("share: %w", err)
		}
	}
	var faults []error
	for _, d := range set.Prove(c.Maps) {
		faults = append(faults, d)
	}
	return set, errors.Join(faults...)
}
