package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const timeForms = "allowed are RFC 3339 (2026-01-31T12:00:00Z), ms since 1970 (1769860800000), or a time back from now (-90s, -1h, -7d)"

// parseTime reads the time of a query parameter; "" is the zero time.
func parseTime(parameter, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if text == "now" {
		return now, nil
	}
	// A "+" that was not escaped arrives as a space.
	if t, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1)); err == nil {
		return inRange(parameter, text, t)
	}
	if strings.HasPrefix(text, "-") {
		if d, ok := parseSpan(text[1:]); ok {
			return inRange(parameter, text, now.Add(-d))
		}
	} else if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return inRange(parameter, text, time.UnixMilli(ms))
	}
	return time.Time{}, badQuery(parameter, text, "not a time; %s", timeForms)
}

// inRange holds times to what nanoseconds since 1970 in 64 bits can say, which is what the stores count in.
func inRange(parameter, text string, t time.Time) (time.Time, error) {
	if y := t.UTC().Year(); y < 1678 || y > 2261 {
		return time.Time{}, badQuery(parameter, text, "the year is out of range; allowed are 1678 to 2261")
	}
	return t, nil
}

// parseSpan reads a positive duration as Go writes it, and whole or broken days and weeks (7d, 1.5d, 2w).
func parseSpan(text string) (time.Duration, bool) {
	unit := time.Duration(0)
	switch {
	case strings.HasSuffix(text, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(text, "w"):
		unit = 7 * 24 * time.Hour
	}
	if unit == 0 {
		d, err := time.ParseDuration(text)
		return d, err == nil && d > 0 && !strings.HasPrefix(text, "+")
	}
	n, err := strconv.ParseFloat(text[:len(text)-1], 64)
	if err != nil || !(n > 0) || n > 36500 { // a century: far below where a Duration overflows for d and w
		return 0, false
	}
	d := n * float64(unit)
	if d > float64(200*365*24*time.Hour) {
		return 0, false
	}
	return time.Duration(d), true
}

// parseDuration reads a duration within bounds; "" is 0.
func parseDuration(location, text string, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, ok := parseSpan(text)
	if !ok || d < least || d > most {
		p := newProblem(http.StatusUnprocessableEntity, "bad_parameter", "%s=%s: not a duration within bounds; allowed are %v to %v, such as 30s, 5m, 24h",
			location[strings.IndexByte(location, '.')+1:], clip(text), least, most)
		return 0, p.at(location, clip(text))
	}
	return d, nil
}
