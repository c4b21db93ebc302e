package api

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
	"telemetryhub/devices/roster"
)

// Importer makes many devices at once, all or none; devices.Importer is one.
type Importer interface {
	Import(ctx context.Context, entries []devices.Entry, existing devices.Existing, check bool) ([]devices.Imported, error)
}

const (
	maxImport      = 16 << 20 // bytes of a list
	importBodyTime = 2 * time.Minute
	importFaults   = 100 // told of one import
	csvType        = "text/csv"
)

type importDevicesInput struct {
	ContentType string `header:"Content-Type" doc:"text/csv or application/x-ndjson"`
	Accept      string `header:"Accept" doc:"text/csv or application/x-ndjson: a device a line; else one JSON object"`
	OnExisting  string `query:"on_existing" enum:"error,skip,update" default:"error" doc:"What becomes of devices that exist: nothing is imported; they stay as they are; they become what their lines say and keep their tokens"`
	Check       bool   `query:"check" doc:"Only say what would be done"`
	RawBody     []byte
}

// ImportedDevice is what an import did with one device.
type ImportedDevice struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome" enum:"created,updated,skipped,overrun" doc:"overrun: another hub changed it meanwhile, and it is as that hub has it"`
	Token   string `json:"token,omitempty" doc:"Of a device that was created; shown this once, the hub keeps only its hash"`
}

// ImportResult is what an import did.
type ImportResult struct {
	Created int              `json:"created"`
	Updated int              `json:"updated"`
	Skipped int              `json:"skipped"`
	Overrun int              `json:"overrun,omitempty" doc:"Changed meanwhile by another hub"`
	Checked bool             `json:"checked,omitempty" doc:"Nothing was done: it was only checked"`
	Devices []ImportedDevice `json:"devices" nullable:"false" doc:"In the order of the list"`
}

func (s *Server) registerImport() {
	text := &huma.Schema{Type: huma.TypeString}
	register(s, admin, huma.Operation{
		OperationID: "import-devices", Method: http.MethodPost, Path: "/api/v1/devices/import", Tags: []string{"devices"},
		Summary: "Add many devices, all or none", MaxBodyBytes: maxImport + 1, BodyReadTimeout: importBodyTime,
		Description: fmt.Sprintf("At most %d devices, as CSV whose first line names the columns id, type, tags (separated by ;), attributes.NAME (or attr:NAME), enabled; or as JSON lines with the members id, type, tags, attributes, enabled. "+
			"What is left out (in CSV an empty cell) is not set, or with on_existing=update stays. "+
			"The whole list is checked first: problem bad_import tells the faults by line and column (at most %d of them), and nothing was done. "+
			"A list that is right is imported whole, also if the hub ends in the middle: then it is finished at the next start, and its devices need new tokens. Tokens are shown this once.", devices.LargestImport, importFaults),
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{csvType: {Schema: text}, ndjson: {Schema: text}}},
		Responses: map[string]*huma.Response{"200": {
			Description: "OK",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schemaOf[ImportResult](s)}, csvType: {Schema: text}, ndjson: {Schema: schemaOf[ImportedDevice](s)}},
		}},
	}, s.importDevices)
}

func (s *Server) importDevices(ctx context.Context, in *importDevicesInput) (*huma.StreamResponse, error) {
	note(ctx, "on_existing", in.OnExisting)
	if in.Check {
		note(ctx, "check", true)
	}
	lines, found, err := readRoster(in)
	if err != nil {
		return nil, err
	}
	entries := make([]devices.Entry, len(lines))
	for i, l := range lines {
		entries[i] = l.Entry
	}
	note(ctx, "devices", len(entries))
	imported, err := s.deps.Importer.Import(ctx, entries, devices.Existing(in.OnExisting), in.Check || len(found) > 0)
	refused, isRefused := errors.AsType[*devices.ImportError](err)
	if err != nil && !isRefused {
		s.log.ErrorContext(ctx, "an import failed", "error", err)
		return nil, newProblem(http.StatusServiceUnavailable, "unavailable", "%v", err).retryAfter(defaultRetry)
	}
	if isRefused {
		for _, f := range refused.Faults {
			found = append(found, importFault(lines[f.Index].Number, f.Err))
		}
	}
	if len(found) > 0 {
		return nil, importProblem(found)
	}
	result := resultOf(imported)
	result.Checked = in.Check
	if !in.Check {
		s.afterImport(ctx, imported, result)
	}
	return answerImport(in.Accept, result)
}

// readRoster reads the list as its type says. An error is about the request as a whole.
func readRoster(in *importDevicesInput) ([]roster.Line, []roster.Fault, error) {
	kind, _, _ := mime.ParseMediaType(in.ContentType)
	switch kind {
	case csvType:
		lines, found := roster.ReadCSV(in.RawBody)
		return lines, found, nil
	case ndjson, "application/jsonl":
		lines, found := roster.ReadLines(in.RawBody)
		return lines, found, nil
	}
	return nil, nil, newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type %q: a list is %s or %s", clip(in.ContentType), csvType, ndjson)
}

func importFault(line int, err error) roster.Fault {
	if invalid, ok := errors.AsType[*devices.InvalidError](err); ok {
		return roster.Fault{Line: line, Column: invalid.Field, Message: invalid.Message}
	}
	return roster.Fault{Line: line, Column: "id", Message: err.Error()}
}

// importProblem tells the first faults by line.
func importProblem(found []roster.Fault) *Problem {
	slices.SortStableFunc(found, func(a, b roster.Fault) int { return cmp.Compare(a.Line, b.Line) })
	lines, last := 0, 0
	for _, f := range found {
		if f.Line != last {
			lines, last = lines+1, f.Line
		}
	}
	told := ""
	if len(found) > importFaults {
		told = fmt.Sprintf("; the first %d are told", importFaults)
	}
	p := newProblem(http.StatusUnprocessableEntity, "bad_import", "nothing was imported: %d faults in %d lines%s", len(found), lines, told).over(0, int64(len(found)))
	for _, f := range found[:min(len(found), importFaults)] {
		at := fmt.Sprintf("line %d", f.Line)
		if f.Column != "" {
			at += ", " + clip(f.Column)
		}
		p.Errors = append(p.Errors, Detail{Location: at, Message: f.Message})
	}
	return p
}

func resultOf(imported []devices.Imported) *ImportResult {
	r := &ImportResult{Devices: make([]ImportedDevice, len(imported))}
	for i, d := range imported {
		switch d.Outcome {
		case devices.Created:
			r.Created++
		case devices.Updated:
			r.Updated++
		case devices.Skipped:
			r.Skipped++
		case devices.Overrun:
			r.Overrun++
		}
		r.Devices[i] = ImportedDevice{ID: d.Device.ID, Outcome: string(d.Outcome), Token: d.Token}
	}
	return r
}

// afterImport does for each device what is done after one is made or changed by itself.
func (s *Server) afterImport(ctx context.Context, imported []devices.Imported, result *ImportResult) {
	note(ctx, "created", result.Created)
	note(ctx, "updated", result.Updated)
	note(ctx, "skipped", result.Skipped)
	if result.Overrun > 0 {
		note(ctx, "overrun", result.Overrun)
	}
	for _, d := range imported {
		if d.Outcome == devices.Created {
			s.forgetState(ctx, d.Device.ID) // of a device that had this id, if its state outlived it
		}
		if d.Outcome == devices.Updated && !d.Device.Enabled {
			s.abandonCommands(ctx, d.Device.ID, "disabled")
		}
	}
	s.log.InfoContext(ctx, "devices imported", "created", result.Created, "updated", result.Updated, "skipped", result.Skipped,
		"overrun", result.Overrun, "operator", exchangeOf(ctx).operator.Name)
}

// answerImport writes the result in the form that was asked for.
func answerImport(accept string, result *ImportResult) (*huma.StreamResponse, error) {
	kind, write := "application/json", func(w io.Writer) error { return json.NewEncoder(w).Encode(result) }
	switch {
	case strings.Contains(accept, ndjson):
		kind, write = ndjson, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			for _, d := range result.Devices {
				if err := enc.Encode(d); err != nil {
					return err
				}
			}
			return nil
		}
	case strings.Contains(accept, csvType):
		kind, write = csvType+"; charset=utf-8", func(w io.Writer) error {
			rows := csv.NewWriter(w)
			_ = rows.Write([]string{"id", "token", "outcome"}) // kept until Flush, whose Error tells
			for _, d := range result.Devices {
				_ = rows.Write([]string{d.ID, d.Token, d.Outcome})
			}
			rows.Flush()
			return rows.Error()
		}
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", kind)
		ctx.SetStatus(http.StatusOK)
		if write(ctx.BodyWriter()) != nil {
			panic(http.ErrAbortHandler) // cut, so that nobody takes half a list for a whole one
		}
	}}, nil
}
