package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxAnswer bounds the bytes of one answer to a query: MaxRows rows of some hundred fields.
const maxAnswer = 256 << 20

// Query answers q. Errors are *InvalidQueryError, *ConfigError, *RetryError, or another error if the engine refuses.
func (s *Store) Query(ctx context.Context, q Query) (Page, error) {
	p, err := q.plan(time.Now())
	if err != nil {
		return Page{}, err
	}
	release, err := s.use()
	if err != nil {
		return Page{}, err
	}
	defer release()
	if p.hasFrom && p.hasTo && p.from >= p.to {
		return Page{}, nil
	}
	results, err := s.run(ctx, p.statement())
	if err != nil {
		return Page{}, err
	}
	return p.page(results[0])
}

// page makes rows of the engine's columns.
func (p *plan) page(r result) (Page, error) {
	rows, err := r.rows(p.prefix())
	if err != nil {
		return Page{}, err
	}
	if p.Fn != "" && p.Every == 0 {
		for i := range rows {
			rows[i].Time = 0
			if !p.From.IsZero() {
				rows[i].Time = p.From.UnixMilli()
			}
		}
		return Page{Rows: rows}, nil
	}
	rows = rows[min(p.at.skip, len(rows)):]
	var page Page
	if len(rows) > p.Limit {
		page.Next = p.next(rows).String()
		rows = rows[:p.Limit]
	}
	page.Rows = slices.DeleteFunc(rows, func(r Row) bool { return len(r.Values) == 0 })
	return page, nil
}

// next is where the page after these rows begins; rows holds the first row of it.
func (p *plan) next(rows []Row) cursor {
	next := cursor{time: rows[p.Limit].Time}
	for i := p.Limit - 1; i >= 0 && rows[i].Time == next.time; i-- {
		next.skip++
	}
	if next.skip == p.Limit && next.time == p.at.time {
		next.skip += p.at.skip // the whole page is within the time at which it began
	}
	return next
}

// prefix is what the engine puts before a field's name when a function was applied to several.
func (p *plan) prefix() string {
	if p.Fn == "" {
		return ""
	}
	return p.Fn + "_"
}

// result is the answer to one statement.
type result struct {
	Series []series `json:"series"`
	Error  string   `json:"error"`
}

type series struct {
	Tags    map[string]string `json:"tags"`
	Columns []string          `json:"columns"`
	Values  [][]any           `json:"values"`
}

// rows merges the series by time. Rows of equal time stand in the order of their series' tags, so that a cursor can
// count them.
func (r result) rows(prefix string) ([]Row, error) {
	if len(r.Series) > 1 {
		slices.SortFunc(r.Series, func(a, b series) int { // fmt prints maps sorted by key
			return strings.Compare(fmt.Sprint(a.Tags), fmt.Sprint(b.Tags))
		})
	}
	var rows []Row
	for _, series := range r.Series {
		for _, values := range series.Values {
			row, err := series.row(values, prefix)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	if len(r.Series) > 1 {
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Time, b.Time) })
	}
	return rows, nil
}

// row names the values of one row; null is left out.
func (s series) row(values []any, prefix string) (Row, error) {
	if len(values) != len(s.Columns) {
		return Row{}, fmt.Errorf("store: query: a row has %d values for %d columns", len(values), len(s.Columns))
	}
	row := Row{Values: make(map[string]any, len(values)-1)}
	for i, column := range s.Columns {
		if i == 0 {
			number, ok := values[0].(json.Number)
			at, err := number.Int64()
			if !ok || err != nil || column != "time" {
				return Row{}, errors.New("store: query: a row has no time")
			}
			row.Time = millisOf(at)
			continue
		}
		if values[i] == nil {
			continue
		}
		value, err := valueOf(values[i])
		if err != nil {
			return Row{}, err
		}
		row.Values[strings.TrimPrefix(column, prefix)] = value
	}
	return row, nil
}

// millisOf rounds down, also before 1970: a server asked for milliseconds rounds towards zero.
func millisOf(ns int64) int64 {
	ms := ns / int64(time.Millisecond)
	if ns%int64(time.Millisecond) < 0 {
		ms--
	}
	return ms
}

// valueOf gives numbers as float64. A whole number that float64 cannot hold exactly stays int64; the engine writes an
// integer field and a float field alike, so that a float beyond 2^53 may come as the int64 of the same shortest text.
func valueOf(v any) (any, error) {
	number, ok := v.(json.Number)
	if !ok {
		return v, nil
	}
	if whole, err := number.Int64(); err == nil && int64(float64(whole)) != whole {
		return whole, nil
	}
	value, err := number.Float64()
	if err != nil {
		return nil, fmt.Errorf("store: query: %w", err)
	}
	return value, nil
}

// run sends statements, separated by semicolons, and gives a result for each. The parameters go in the body: addresses
// have a length limit and stand in logs.
func (s *Store) run(ctx context.Context, statements ...string) ([]result, error) {
	form := url.Values{"db": {s.place.db}, "epoch": {"ns"}, "q": {strings.Join(statements, "; ")}}
	if s.place.rp != "" {
		form.Set("rp", s.place.rp)
	}
	var body struct {
		Results []result `json:"results"`
		Error   string   `json:"error"`
	}
	ctx, kept := keepAnswer(ctx)
	failed := s.client.HTTPService().DoPostRequest(ctx, s.queryURL, strings.NewReader(form.Encode()),
		func(request *http.Request) {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("Accept", "application/json")
		},
		func(response *http.Response) error {
			defer response.Body.Close()
			decoder := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
			decoder.UseNumber()
			return decoder.Decode(&body)
		})
	switch {
	case failed == nil:
	case kept.status/100 == 2 && ctx.Err() == nil && isSyntax(failed):
		return nil, otherOutcome("query", kept, "")
	case kept.status == 0 || kept.status/100 == 2: // no answer, or one that broke off
		return nil, &RetryError{Err: fmt.Errorf("query: %w", failed)}
	default:
		text, _ := kept.message()
		if kept.status == http.StatusBadRequest || kept.status == http.StatusUnprocessableEntity {
			return nil, fmt.Errorf("store: query: status %d: %s", kept.status, short(text))
		}
		return nil, otherOutcome("query", kept, text)
	}
	if body.Error != "" {
		return nil, resultError(body.Error)
	}
	for _, r := range body.Results {
		if r.Error != "" {
			return nil, resultError(r.Error)
		}
	}
	if len(body.Results) != len(statements) {
		return nil, fmt.Errorf("store: query: %d results for %d statements", len(body.Results), len(statements))
	}
	return body.Results, nil
}

func isSyntax(err error) bool {
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &shape)
}

// resultError knows an error within an answer of 200 by its words: it has nothing else.
func resultError(text string) error {
	switch {
	case strings.Contains(text, "database not found"), strings.Contains(text, "retention policy not found"):
		return &ConfigError{Message: "query: " + short(text), Mend: "create it on the server, or correct bucket"}
	case strings.Contains(text, "query-timeout"):
		// Not to be tried again: it would take as long then, and writes of new series wait for it in the embedded engine.
		return &InvalidQueryError{Field: "from", Message: "the query took longer than the store allows; ask for a shorter time or fewer fields"}
	case strings.Contains(text, "timeout"), strings.Contains(text, "interrupted"),
		strings.Contains(text, "max-concurrent-queries"), strings.Contains(text, "shutdown"):
		return &RetryError{Err: errors.New("query: " + short(text))}
	}
	return errors.New("store: query: " + short(text))
}
