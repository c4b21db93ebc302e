package main

import (
	"encoding/csv"
	"errors"
	"slices"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type historyCommand struct {
	Device      string        `arg:"" help:"Id of the device."`
	Fields      []string      `placeholder:"A,B" help:"Only these fields."`
	From        string        `placeholder:"TIME" help:"From then on: RFC 3339, ms since 1970, or back from now (-1h, -7d)."`
	To          string        `placeholder:"TIME" help:"Up to then, exclusive."`
	Every       time.Duration `placeholder:"1m" help:"One row a window of this length; needs --fn."`
	Windows     int           `placeholder:"N" help:"At most so many windows, all of a width that the hub chooses."`
	Fn          string        `enum:"mean,min,max,sum,count,first,last," default:"" placeholder:"FN" help:"mean, min, max, sum, count, first or last; of each window, or of all."`
	Measurement string        `placeholder:"NAME" help:"Other than that of the device's type (telemetry as a rule)."`
	Limit       int           `short:"n" default:"1000" help:"How many rows at most; 0 for all."`
	CSV         bool          `name:"csv" help:"CSV instead of a table."`
}

// Run reads readings back.
func (c *historyCommand) Run(a *app) error {
	if (c.Every > 0 || c.Windows > 0) && c.Fn == "" {
		c.Fn = "mean"
	}
	const page = 1000
	q := client.TelemetryQuery{
		Fields: c.Fields, Measurement: c.Measurement, From: c.From, To: c.To, Every: c.Every, Windows: c.Windows, Fn: c.Fn, Page: page,
	}
	if c.Limit > 0 {
		q.Page = min(page, c.Limit)
	}
	out := &rowPrinter{app: a, csv: c.CSV, columns: c.Fields, chosen: len(c.Fields) > 0}
	n := 0
	for row, err := range a.hub.Telemetry(a.ctx, c.Device, q) {
		if err != nil {
			return errors.Join(out.flush(), err)
		}
		if err := out.add(row); err != nil {
			return err
		}
		if n++; n == c.Limit {
			say(a.stderr, "hubctl: there may be more: --limit 0 shows all, --from and --to choose")
			break
		}
	}
	return out.flush()
}

// heldRows is how many rows are looked at for their fields before they are printed.
const heldRows = 1000

// rowPrinter prints rows as JSON lines, CSV or tables. Their fields are not known beforehand: rows are held back,
// and a table whose fields change begins again with a new heading. CSV has one heading, so there it is an error.
type rowPrinter struct {
	app     *app
	csv     bool
	columns []string // given, or those of the rows printed last
	chosen  bool     // the columns were given
	headed  bool
	held    []client.Reading
}

func (p *rowPrinter) add(r client.Reading) error {
	if p.app.json {
		return p.app.printLine(r)
	}
	if p.held = append(p.held, r); len(p.held) < heldRows {
		return nil
	}
	return p.flush()
}

func (p *rowPrinter) flush() error {
	if len(p.held) == 0 {
		return nil
	}
	fresh := !p.headed
	if !p.headed && len(p.columns) == 0 || p.headed && p.lacks() {
		if p.headed && p.csv {
			return usageError("the readings have fields that the heading lacks; name those that you want with --fields")
		}
		p.columns, fresh = fieldsOf(p.held), true
	}
	p.headed = true
	rows := make([][]string, 0, len(p.held)+1)
	if fresh && p.csv {
		rows = append(rows, append([]string{"time"}, p.columns...))
	}
	for _, r := range p.held {
		cells := []string{""} // one value over all has no time
		if r.TS != 0 {
			cells[0] = moment(r.Time())
		}
		for _, field := range p.columns {
			cells = append(cells, valueText(r.Values[field]))
		}
		rows = append(rows, cells)
	}
	p.held = p.held[:0]
	if p.csv {
		return wrapWrite(csv.NewWriter(p.app.stdout).WriteAll(rows))
	}
	out := newTable(p.app.stdout, append([]string{"TIME"}, p.columns...)...)
	for _, cells := range rows {
		if err := out.row(cells...); err != nil {
			return err
		}
	}
	return out.flush()
}

// lacks reports whether a held row has a field that is not among the columns, which nobody chose.
func (p *rowPrinter) lacks() bool {
	if p.chosen {
		return false
	}
	for _, field := range fieldsOf(p.held) {
		if !slices.Contains(p.columns, field) {
			return true
		}
	}
	return false
}

func fieldsOf(rows []client.Reading) []string {
	seen := map[string]bool{}
	for _, r := range rows {
		for field := range r.Values {
			seen[field] = true
		}
	}
	return sortedKeys(seen)
}

type latestCommand struct {
	Device      string `arg:"" help:"Id of the device."`
	Measurement string `placeholder:"NAME" help:"Other than that of the device's type (telemetry as a rule)."`
}

// Run shows the newest values.
func (c *latestCommand) Run(a *app) error {
	latest, err := a.hub.Latest(a.ctx, c.Device, c.Measurement)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(latest)
	}
	rows := newTable(a.stdout, "FIELD", "VALUE", "MEASURED", "AGE")
	for _, field := range sortedKeys(latest.Values) {
		v := latest.Values[field]
		err := rows.row(field, strings.TrimSpace(valueText(v.Value)+" "+v.Unit), moment(time.UnixMilli(v.TS)), age(time.Duration(v.AgeMs)*time.Millisecond))
		if err != nil {
			return err
		}
	}
	return rows.flush()
}
