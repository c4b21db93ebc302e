package main

import (
	"strings"

	"telemetryhub/api/client"
)

type typesLs struct {
	Measurement string `placeholder:"NAME" help:"Only of this measurement."`
}

// Run lists the types of fields.
func (c *typesLs) Run(a *app) error {
	rows, all := newTable(a.stdout, "MEASUREMENT", "FIELD", "TYPE", "STORED AS", "CHANGED", "BY", "EARLIER"), []client.FieldType{}
	for t, err := range a.hub.Types(a.ctx, c.Measurement) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, t)
		} else if err := rows.row(typeCells(&t)...); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	return rows.flush()
}

func typeCells(t *client.FieldType) []string {
	var earlier []string
	for _, e := range t.Earlier {
		earlier = append(earlier, e.StoredAs+" "+e.Type)
	}
	return []string{t.Measurement, t.Field, t.Type, t.StoredAs, moment(t.ChangedAt), t.ChangedBy, strings.Join(earlier, ", ")}
}

type typesSet struct {
	Field       string `arg:"" placeholder:"MEASUREMENT.FIELD" help:"Such as telemetry.temp; the measurement ends at the first dot."`
	Type        string `arg:"" enum:"float,integer,string,boolean" help:"float, integer, string or boolean."`
	Measurement string `placeholder:"NAME" help:"For one with dots in its name; then FIELD stands alone."`
	As          string `placeholder:"NAME" help:"The name by which values are stored from now on; the hub chooses one when left out."`
}

// Help is what kong shows below the flags.
func (typesSet) Help() string {
	return "Holds for readings received from now on, of all devices, and for those in the quarantine that are retried: hubctl quarantine retry --reason type_conflict. " +
		"What is stored stays as it is. A field has one type in the store, so that values of the new one are stored by another name, such as temp_float, where it holds values of the old."
}

// Run changes the type of a field.
func (c *typesSet) Run(a *app) error {
	measurement, field := c.Measurement, c.Field
	if measurement == "" {
		var ok bool
		if measurement, field, ok = strings.Cut(c.Field, "."); !ok {
			return usageError("%q names no measurement: write telemetry.%s", c.Field, c.Field)
		}
	}
	set, err := a.hub.SetType(a.ctx, measurement, field, c.Type, c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(set)
	}
	return a.printf("%s.%s is %s, stored as %s: %s\n%s\n", clean(set.Measurement), clean(set.Field), clean(set.Type), clean(set.StoredAs), clean(set.State), clean(set.Message))
}
