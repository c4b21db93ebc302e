package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"telemetryhub/api/client"
)

// Names of limits whose values people write otherwise than the hub. The others are whole numbers.
const (
	limitBurst = "burst" // a duration; the hub's burst_ms
	burstMs    = "burst_ms"
)

// byteLimits are sizes.
func isByteLimit(name string) bool { return name == "bytes" || name == "max_frame" }

// limitChange reads --limit NAME=VALUE and --no-limit NAME. What is no limit, or out of bounds, the hub says.
func limitChange(set map[string]string, unset []string) (map[string]*int64, error) {
	if len(set)+len(unset) == 0 {
		return nil, nil
	}
	change := map[string]*int64{}
	for name, text := range set {
		value, err := limitValue(name, text)
		if err != nil {
			return nil, fmt.Errorf("--limit %s=%s: %w", name, text, err)
		}
		change[hubsName(name)] = &value
	}
	for _, name := range unset {
		change[hubsName(name)] = nil
	}
	return change, nil
}

func hubsName(name string) string {
	if name == limitBurst {
		return burstMs
	}
	return name
}

func limitValue(name, text string) (int64, error) {
	switch {
	case text == "none":
		return 0, nil
	case name == limitBurst:
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New("write it like 10s")
		}
		return d.Milliseconds(), nil
	case isByteLimit(name):
		return parseBytes(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errors.New("write a whole number, or none")
	}
	return n, nil
}

// parseBytes reads a size as the hub's configuration does: 16KiB, 2MiB, or plain bytes.
func parseBytes(text string) (int64, error) {
	number, unit := text, int64(1)
	for name, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, name); ok {
			number, unit = rest, bytes
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errors.New("write it like 16KiB, 2MiB or as a number of bytes")
	}
	return n * unit, nil
}

// limitsText writes a device's limits, and whose they are.
func limitsText(limits map[string]client.Limit) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		l := limits[name]
		shown, value := name, strconv.FormatInt(l.Value, 10)
		switch {
		case name == burstMs:
			shown, value = limitBurst, (time.Duration(l.Value) * time.Millisecond).String()
		case l.Value == 0:
			value = "none"
		case isByteLimit(name) && l.Value%(1<<10) == 0:
			value = strconv.FormatInt(l.Value>>10, 10) + "KiB"
		}
		parts = append(parts, fmt.Sprintf("%s=%s (%s)", shown, value, l.From))
	}
	return strings.Join(parts, ", ")
}

// slowedText says what its limits have cost a device; nothing if they have not.
func slowedText(s *client.Slowed) string {
	if s == nil {
		return ""
	}
	held := (time.Duration(s.HeldMs) * time.Millisecond).Round(time.Millisecond)
	return fmt.Sprintf("for %s, %d refused, last by %s at %s", held, s.Refused, s.Limit, moment(s.Last))
}
