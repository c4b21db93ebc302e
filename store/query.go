package store

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxRows is the largest Limit, and the largest number of windows that one query may span.
	MaxRows = 10_000
	// DefaultRows is the Limit of a query that sets none.
	DefaultRows = 1_000
	// MaxFields bounds the named fields of a query.
	MaxFields = 500
	// maxSkip bounds how many rows of one millisecond can be paged through: as many as a millisecond can hold.
	maxSkip = int(time.Millisecond)
	// maxName bounds a device id, measurement or field name in a query, in bytes.
	maxName = 1_024
)

// Query asks for points of one device, in one of three ways:
//
//   - neither Fn nor Every: the points as they were written, ascending in time;
//   - Fn without Every: one row, the function over all points of the range;
//   - Every: one row for each window that has points; Fn is mean unless set. Windows are aligned to the epoch, so that the
//     first may begin before From; it counts only points from From on.
//
// Rows come in pages of at most Limit rows. Page.Next is the Cursor of the next page, empty at the end; a cursor belongs
// to the query that it came from. Points written while somebody pages, at times already passed, are not seen by him.
type Query struct {
	Device      string
	Measurement string        // DefaultMeasurement if empty
	Fields      []string      // all fields if empty
	From, To    time.Time     // From inclusive, To exclusive; zero: no bound. With Every: From is needed, To zero is now
	Every       time.Duration // width of a window, whole milliseconds
	Fn          string        // mean, min, max, sum (numbers), count, first, last (all types); other fields are left out
	Limit       int           // rows in a page; DefaultRows if 0, at most MaxRows
	Cursor      string
}

// Row is what was measured at one time.
type Row struct {
	// Time is in milliseconds since the epoch: of the point, of the window's beginning, or (Fn without Every) Query.From,
	// 0 without it.
	Time int64
	// Values are float64, bool or string by field; whole numbers that float64 cannot hold exactly are int64.
	Values map[string]any
}

// Page is a part of an answer.
type Page struct {
	Rows []Row
	Next string // cursor of the next page; empty at the end
}

// cursor is where a page begins: at a time in ms, after so many rows of that time. Several readings may have the same,
// and several series of one device (other tags differ).
type cursor struct {
	time int64
	skip int
}

func (c cursor) String() string { return strconv.FormatInt(c.time, 10) + "." + strconv.Itoa(c.skip) }

func parseCursor(text string) (cursor, error) {
	left, right, ok := strings.Cut(text, ".")
	at, err1 := strconv.ParseInt(left, 10, 64)
	skip, err2 := strconv.Atoi(right)
	if !ok || err1 != nil || err2 != nil || skip < 0 || skip > maxSkip {
		return cursor{}, &InvalidQueryError{"cursor", "is not one that an answer gave as next"}
	}
	return cursor{at, skip}, nil
}

// plan is a checked query, ready to be written as InfluxQL.
type plan struct {
	Query
	from, to       int64 // ms; from inclusive, to exclusive
	hasFrom, hasTo bool
	at             cursor // where the page begins, if Cursor is set
}

// InfluxDB keeps times as nanoseconds in an int64: the years 1678 to 2262. Bounds beyond them bound nothing.
const (
	minMillis = -9_223_372_036_854
	maxMillis = 9_223_372_036_854
)

// plan checks a query and fills in what it leaves open. Errors are *InvalidQueryError.
func (q Query) plan(now time.Time) (*plan, error) {
	p := &plan{Query: q}
	if p.Measurement == "" {
		p.Measurement = DefaultMeasurement
	}
	if p.Limit == 0 {
		p.Limit = DefaultRows
	}
	if p.Limit < 0 || p.Limit > MaxRows {
		return nil, &InvalidQueryError{"limit", fmt.Sprintf("%d is not within 1 and %d", p.Limit, MaxRows)}
	}
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	if !q.From.IsZero() && !q.To.IsZero() && q.From.After(q.To) {
		return nil, &InvalidQueryError{"to", "is before from"}
	}
	p.from, p.hasFrom = millisUp(q.From)
	p.to, p.hasTo = millisUp(q.To)
	if q.Every != 0 {
		if err := p.checkWindows(now); err != nil {
			return nil, err
		}
	}
	if q.Cursor != "" {
		if q.Fn != "" && q.Every == 0 {
			return nil, &InvalidQueryError{"cursor", "an answer of one row has no further pages"}
		}
		at, err := parseCursor(q.Cursor)
		if err != nil {
			return nil, err
		}
		if p.hasFrom && at.time < p.from || p.hasTo && at.time >= p.to || at.time <= minMillis || at.time >= maxMillis {
			return nil, &InvalidQueryError{"cursor", "is outside of from and to"}
		}
		p.at, p.from, p.hasFrom = at, at.time, true
	}
	return p, nil
}

func (p *plan) checkNames() error {
	if err := checkName("device", p.Device); err != nil {
		return err
	}
	if err := checkName("measurement", p.Measurement); err != nil {
		return err
	}
	if len(p.Fields) > MaxFields {
		return &InvalidQueryError{"fields", fmt.Sprintf("%d are more than %d", len(p.Fields), MaxFields)}
	}
	for _, name := range p.Fields {
		if err := checkName("fields", name); err != nil {
			return err
		}
		if name == "time" {
			return &InvalidQueryError{"fields", "time is the name of each row's time, not of a field"}
		}
	}
	// InfluxQL gives a field that is named twice a second name.
	p.Fields = slices.Clone(p.Fields)
	slices.Sort(p.Fields)
	p.Fields = slices.Compact(p.Fields)
	switch p.Fn {
	case "mean", "min", "max", "sum", "count", "first", "last":
	case "":
		if p.Every != 0 {
			p.Fn = "mean"
		}
	default:
		return &InvalidQueryError{"fn", fmt.Sprintf("%q is none of mean, min, max, sum, count, first, last", short(p.Fn))}
	}
	return nil
}

func (p *plan) checkWindows(now time.Time) error {
	if p.Every < time.Millisecond || p.Every%time.Millisecond != 0 {
		return &InvalidQueryError{"every", fmt.Sprintf("%s is not a positive number of whole milliseconds", p.Every)}
	}
	if !p.hasFrom {
		return &InvalidQueryError{"from", "is needed with every"}
	}
	if !p.hasTo {
		p.to, p.hasTo = millisUp(now)
	}
	every := p.Every.Milliseconds()
	if windows := (p.to - p.from) / every; windows > MaxRows {
		return &InvalidQueryError{"every", fmt.Sprintf("%s cuts the range into %d windows, the limit is %d", p.Every, windows, MaxRows)}
	}
	return nil
}

// checkName admits what InfluxQL can quote. It has no escape for most control characters, and names that hold them
// cannot be written as line protocol either.
func checkName(field, name string) error {
	switch {
	case name == "":
		return &InvalidQueryError{field, "is empty"}
	case len(name) > maxName:
		return &InvalidQueryError{field, fmt.Sprintf("a name of %d bytes is longer than %d", len(name), maxName)}
	case !utf8.ValidString(name):
		return &InvalidQueryError{field, "is not UTF-8"}
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
		return &InvalidQueryError{field, "holds a control character"}
	}
	return nil
}

// millisUp rounds up to whole ms, which is how rows tell their times, so that this holds for both bounds. False: no bound.
func millisUp(t time.Time) (int64, bool) {
	if t.IsZero() {
		return 0, false
	}
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms, ms > minMillis && ms < maxMillis
}

// statement is the query in InfluxQL. It asks for one row more than the page has, to know whether there is a next one.
func (p *plan) statement() string {
	var b strings.Builder
	b.WriteString("SELECT ")
	switch {
	case p.Fn != "" && len(p.Fields) == 0:
		b.WriteString(p.Fn + "(*)")
	case p.Fn != "":
		// A pattern, because it passes over fields whose type the function does not take; a name would be an error.
		b.WriteString(p.Fn + "(" + quotePattern(p.Fields) + ")")
	case len(p.Fields) == 0:
		b.WriteString("*::field")
	default:
		for i, name := range p.Fields {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quoteName(name) + "::field")
		}
	}
	b.WriteString(" FROM " + quoteName(p.Measurement) + " WHERE " + deviceIs(p.Device))
	if p.hasFrom {
		b.WriteString(" AND time >= " + strconv.FormatInt(p.from, 10) + "ms")
	}
	if p.hasTo {
		b.WriteString(" AND time < " + strconv.FormatInt(p.to, 10) + "ms")
	}
	switch {
	case p.Every != 0:
		b.WriteString(" GROUP BY time(" + strconv.FormatInt(p.Every.Milliseconds(), 10) + "ms) fill(none) ORDER BY time ASC")
		b.WriteString(" LIMIT " + strconv.Itoa(p.Limit+1))
	case p.Fn == "":
		// Each series by itself: the order in which the engine merges rows of equal time differs between pages. The limit
		// is for each series.
		b.WriteString(" GROUP BY * ORDER BY time ASC LIMIT " + strconv.Itoa(p.at.skip+p.Limit+1))
	}
	return b.String()
}

func deviceIs(device string) string {
	return quoteName(DeviceTag) + "::tag = " + quoteText(device)
}

// quoteName writes an InfluxQL identifier. The escapes are those of its grammar: https://docs.influxdata.com/influxdb/v1/query_language/spec/
func quoteName(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// quoteText writes an InfluxQL string.
func quoteText(text string) string {
	return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + `'`
}

// quotePattern writes an InfluxQL regular expression that matches these names and no others.
func quotePattern(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(name), "/", `\/`)
	}
	return "/^(?:" + strings.Join(quoted, "|") + ")$/"
}
