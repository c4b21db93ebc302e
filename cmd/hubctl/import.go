package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"telemetryhub/api/client"
)

type devicesImport struct {
	File     string `arg:"" help:"The list; - reads it from standard input."`
	Format   string `enum:"csv,jsonl," default:"" placeholder:"csv|jsonl" help:"What the list is (default: by the file's name, .csv, .jsonl or .ndjson)."`
	Existing string `name:"on-existing" enum:"error,skip,update" default:"error" placeholder:"error|skip|update" help:"What becomes of devices that exist: nothing is imported (the default), they stay, or they become what the list says."`
	Check    bool   `help:"Only check the list and say what would be done."`
	Tokens   string `placeholder:"FILE" type:"path" help:"Write id,token,outcome there (CSV, mode 0600; JSON lines if its name ends in .jsonl), not to standard output. It must not exist."`
}

// Help is what kong shows below the flags.
func (devicesImport) Help() string {
	return "CSV names its columns in the first line: id, type, tags (separated by ;), attributes.NAME or attr:NAME, enabled. JSON lines have the members " +
		"id, type, tags, attributes, enabled. At most 10,000 devices. If anything is wrong, all faults are told by line and nothing is imported. " +
		"The tokens of new devices are shown this once: id,token,outcome on standard output, or in --tokens FILE.\n\nExample: hubctl devices import fleet.csv --tokens fleet-tokens.csv"
}

// Run imports a list of devices.
func (c *devicesImport) Run(a *app) (err error) {
	form, err := listForm(c.Format, c.File)
	if err != nil {
		return err
	}
	list, err := readList(c.File)
	if err != nil {
		return err
	}
	to := a.stdout
	if c.Tokens != "" && !c.Check {
		// Before anything is imported, so that no token is without a place.
		file, err := os.OpenFile(c.Tokens, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return usageError("--tokens: %v", err)
		}
		written := false
		defer func() {
			_ = file.Close() // Sync has told
			if !written {
				_ = os.Remove(c.Tokens) // it is empty, or what is in it was printed
			}
		}()
		result, err := a.importList(form, list, c)
		if err != nil {
			return err
		}
		err = errors.Join(writeTokens(file, tokenForm(c.Tokens), result.Devices), file.Sync())
		if written = err == nil; !written {
			say(a.stderr, fmt.Sprintf("hubctl: %s: %v; the tokens follow on standard output", c.Tokens, err))
			return errors.Join(err, writeTokens(to, client.CSV, result.Devices))
		}
		return a.showImport(result)
	}
	result, err := a.importList(form, list, c)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(result)
	}
	say(a.stderr, "hubctl: "+importText(result))
	if c.Check {
		return nil
	}
	return writeTokens(to, client.CSV, result.Devices)
}

// importList sends a list and waits, with a bar on a terminal.
func (a *app) importList(form string, list []byte, c *devicesImport) (client.ImportResult, error) {
	if file, is := a.stderr.(*os.File); is && term.IsTerminal(int(file.Fd())) {
		bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(a.stderr), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription(fmt.Sprintf("importing %d kB", (len(list)+999)/1000)), progressbar.OptionSetElapsedTime(true))
		defer func() { _ = bar.Finish() }() // a terminal that went away is no reason to stop
	}
	result, err := a.hub.ImportDevices(a.ctx, form, list, c.Existing, c.Check)
	if p, is := errors.AsType[*client.Problem](err); is && p.Reason == "bad_import" {
		lines := []string{clean(p.Detail)}
		for _, f := range p.Errors {
			lines = append(lines, "hubctl:   "+clean(f.Location)+": "+clean(f.Message))
		}
		return result, &statusError{status: exitError, message: strings.Join(lines, "\n")}
	}
	return result, err
}

// showImport says what was done, without the tokens, which are in a file.
func (a *app) showImport(r client.ImportResult) error {
	if !a.json {
		say(a.stderr, "hubctl: "+importText(r))
		return nil
	}
	r.Devices = nil
	return a.printJSON(r)
}

func importText(r client.ImportResult) string {
	text := fmt.Sprintf("%d devices created, %d updated, %d skipped", r.Created, r.Updated, r.Skipped)
	if r.Checked {
		text = fmt.Sprintf("the list is right: %d devices would be created, %d updated, %d skipped", r.Created, r.Updated, r.Skipped)
	}
	if r.Overrun > 0 {
		text += fmt.Sprintf("; %d were changed meanwhile by another hub and are as that hub has them", r.Overrun)
	}
	return text
}

func readList(file string) ([]byte, error) {
	if file == "-" {
		list, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read the list: %w", err)
		}
		return list, nil
	}
	list, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError("%v", err)
	}
	return list, nil
}

// listForm is the form of a list as it was said, or by the file's name.
func listForm(said, file string) (string, error) {
	switch said {
	case "csv":
		return client.CSV, nil
	case "jsonl":
		return client.JSONLines, nil
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv":
		return client.CSV, nil
	case ".jsonl", ".ndjson":
		return client.JSONLines, nil
	}
	return "", usageError("say what %s is: --format csv or --format jsonl", clean(file))
}

func tokenForm(file string) string {
	if form, err := listForm("", file); err == nil {
		return form
	}
	return client.CSV
}

func writeTokens(w io.Writer, form string, list []client.ImportedDevice) error {
	if form == client.JSONLines {
		enc := json.NewEncoder(w)
		for _, d := range list {
			if err := enc.Encode(d); err != nil {
				return wrapWrite(err)
			}
		}
		return nil
	}
	rows := csv.NewWriter(w)
	_ = rows.Write([]string{"id", "token", "outcome"}) // kept until Flush, whose Error tells
	for _, d := range list {
		_ = rows.Write([]string{d.ID, d.Token, d.Outcome})
	}
	rows.Flush()
	return wrapWrite(rows.Error())
}

type devicesExport struct {
	Format string `enum:"csv,jsonl" default:"csv" placeholder:"csv|jsonl" help:"CSV (the default) or JSON lines."`
	Query  string `short:"q" placeholder:"TEXT" help:"Only those with this text in id, type or tag."`
	Tag    string `placeholder:"TAG" help:"Only those with this tag."`
}

// exported is a device as import reads it.
type exported struct {
	ID         string            `json:"id"`
	Type       string            `json:"type,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Enabled    bool              `json:"enabled"`
}

// Run writes all devices, without tokens, which the hub does not know.
func (c *devicesExport) Run(a *app) error {
	var all []exported // CSV needs to know all attributes first
	for d, err := range a.hub.Devices(a.ctx, client.DeviceFilter{Query: c.Query, Tag: c.Tag, Page: 1000}) {
		if err != nil {
			return err
		}
		one := exported{ID: d.ID, Type: d.Type, Tags: d.Tags, Attributes: d.Attributes, Enabled: d.Enabled}
		if c.Format == "jsonl" || a.json {
			if err := a.printLine(one); err != nil {
				return err
			}
			continue
		}
		all = append(all, one)
	}
	if c.Format == "jsonl" || a.json {
		return nil
	}
	return exportCSV(a.stdout, all)
}

func exportCSV(w io.Writer, all []exported) error {
	names := map[string]bool{}
	for _, d := range all {
		for name := range d.Attributes {
			names[name] = true
		}
	}
	attributes := slices.Sorted(maps.Keys(names))
	rows := csv.NewWriter(w)
	heading := []string{"id", "type", "tags", "enabled"}
	for _, name := range attributes {
		heading = append(heading, "attributes."+name)
	}
	_ = rows.Write(heading) // kept until Flush, whose Error tells
	for _, d := range all {
		tags, err := joinTags(d.Tags)
		if err != nil {
			return err
		}
		cells := []string{d.ID, d.Type, tags, strconv.FormatBool(d.Enabled)}
		for _, name := range attributes {
			cells = append(cells, d.Attributes[name])
		}
		_ = rows.Write(cells)
	}
	rows.Flush()
	return wrapWrite(rows.Error())
}

// joinTags writes tags as one cell; those that a semicolon or spaces at an end would change, as a JSON array.
func joinTags(tags []string) (string, error) {
	for i, tag := range tags {
		if strings.Contains(tag, ";") || strings.TrimSpace(tag) != tag || i == 0 && strings.HasPrefix(tag, "[") {
			data, err := json.Marshal(tags)
			if err != nil {
				return "", fmt.Errorf("encode tags: %w", err)
			}
			return string(data), nil
		}
	}
	return strings.Join(tags, ";"), nil
}
