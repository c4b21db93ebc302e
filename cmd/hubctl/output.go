package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// printJSON writes v for scripts, indented.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return wrapWrite(enc.Encode(v))
}

// printLine writes v as one line of JSON.
func (a *app) printLine(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return wrapWrite(enc.Encode(v))
}

// printf writes text for people; what comes from outside goes through clean first.
func (a *app) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(a.stdout, format, args...)
	return wrapWrite(err)
}

func wrapWrite(err error) error {
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// table aligns rows under a heading. Lines come out at flush, or every 1000 rows so that memory stays bounded.
type table struct {
	w    *tabwriter.Writer
	rows int
}

func newTable(out io.Writer, heading ...string) *table {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	_, _ = fmt.Fprintln(t.w, strings.Join(heading, "\t")) // kept until flush, which reports
	return t
}

func (t *table) row(cells ...string) error {
	for i, cell := range cells {
		if cells[i] = clean(cell); cells[i] == "" {
			cells[i] = "-"
		}
	}
	if _, err := fmt.Fprintln(t.w, strings.Join(cells, "\t")); err != nil {
		return wrapWrite(err)
	}
	if t.rows++; t.rows%1000 == 0 {
		return t.flush()
	}
	return nil
}

func (t *table) flush() error { return wrapWrite(t.w.Flush()) }

// clean keeps texts from outside from moving the terminal's cursor or breaking a table.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// moment writes a time in UTC, as everything in the hub is; a zero time is empty.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// age writes how long ago something was, with its largest unit or two.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "in " + age(-d)
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// valueText writes a value for people: numbers as short as they are exact, whole ones without an exponent where JSON has
// none, texts without their quotes.
func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e21 {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

// pairs writes values as key=value, sorted by key.
func pairs[V any](values map[string]V, text func(V) string) string {
	parts := make([]string, 0, len(values))
	for key, v := range values {
		parts = append(parts, key+"="+text(v))
	}
	sort.Strings(parts)
	return strings.Join(parts, " ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
