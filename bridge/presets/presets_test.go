package presets_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"telemetryhub/bridge/maps"
	"telemetryhub/bridge/presets"
	"telemetryhub/wire"
)

//nolint:gochecknoglobals // how the flag package works
var update = flag.Bool("update", false, "write what comes out into the golden files")

// TestGolden plays the conversations in testdata/PRESET/*.txt:
//
//	# text                       what it shows and whose documentation shows it
//	option NAME VALUE            of the preset, before the first line of the kinds below
//	> TOPIC PAYLOAD              a device publishes; a topic with blanks stands in quotes
//	>r TOPIC PAYLOAD             the same, retained
//	device DEVICE TYPE           is in the registry, and was not heard of since the hub's start
//	< DEVICE METHOD PARAMS       an operator sends a command
//	  = OUTCOME                  what comes of the line above, one line each; "= nothing" where nothing does
//
// A line of the first kinds without an outcome is a failure: -update writes them, and then they are to be read.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimPrefix(file, "testdata/"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, filepath.Base(filepath.Dir(file)), string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("not what %s says (-update writes it):\n%s", file, difference(string(text), got))
			}
		})
	}
}

// conversation is one golden file at work.
type conversation struct {
	t       *testing.T
	group   string
	set     *maps.Set
	scratch maps.Scratch
	targets map[string]maps.Target
	waiting []*maps.Expectation
	sent    int
}

// play returns the conversation with what comes out now.
func play(t *testing.T, preset, text string) string {
	t.Helper()
	var out strings.Builder
	options := map[string]string{}
	var c *conversation
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "  = ") {
			continue
		}
		out.WriteString(line + "\n")
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "", "#":
			continue
		case "option":
			name, value, _ := strings.Cut(rest, " ")
			options[name] = value
			continue
		}
		if c == nil {
			c = begin(t, preset, options)
		}
		if kind == "device" {
			id, deviceType, _ := strings.Cut(rest, " ")
			c.targets[id] = maps.Target{Device: id, Type: deviceType}
			continue
		}
		for _, outcome := range c.step(kind, rest) {
			out.WriteString("  = " + outcome + "\n")
		}
	}
	return out.String()
}

func begin(t *testing.T, preset string, options map[string]string) *conversation {
	t.Helper()
	g, err := presets.Load(preset, options)
	if err != nil {
		t.Fatal(err)
	}
	set, err := maps.Compile([]maps.Group{g})
	if err != nil {
		t.Fatal(err)
	}
	return &conversation{t: t, group: g.Name, set: set, targets: map[string]maps.Target{}}
}

func (c *conversation) step(kind, rest string) []string {
	c.t.Helper()
	first, rest := cutWord(c.t, rest)
	switch kind {
	case ">", ">r":
		return c.up(maps.Message{Topic: first, Payload: []byte(rest), Retained: kind == ">r"})
	case "<":
		method, params, _ := strings.Cut(rest, " ")
		return c.down(first, method, params)
	}
	c.t.Fatalf("a line begins with %q", kind)
	return nil
}

// cutWord takes the first word, which may stand in quotes.
func cutWord(t *testing.T, line string) (word, rest string) {
	t.Helper()
	if !strings.HasPrefix(line, `"`) {
		word, rest, _ = strings.Cut(line, " ")
		return word, rest
	}
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if word, err = strconv.Unquote(quoted); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return word, strings.TrimPrefix(line[len(quoted):], " ")
}

func (c *conversation) up(m maps.Message) (lines []string) {
	outcomes, err := c.set.Up(&c.scratch, m)
	if refused, is := errors.AsType[*maps.Refusal](err); is {
		return []string{"refused " + refused.Reason + ": " + refused.Error()}
	}
	for i := range outcomes {
		o := &outcomes[i]
		if o.What == maps.Answered {
			if line := c.answer(o); line != "" {
				lines = append(lines, line)
			}
			continue
		}
		c.hear(o)
		for _, shown := range maps.Show(outcomes[i : i+1]) {
			lines = append(lines, written(c.t, shown))
		}
		lines = append(lines, c.done(o)...)
	}
	if lines == nil {
		return []string{"nothing"}
	}
	return lines
}

// hear remembers what a device's message says of it.
func (c *conversation) hear(o *maps.Outcome) {
	target := c.targets[o.Device]
	target.Device = o.Device
	if o.Type != "" {
		target.Type = o.Type
	}
	if len(o.Vars) > 0 {
		target.Vars = slices.Clone(o.Vars)
	}
	c.targets[o.Device] = target
}

// answer says which command an answer is to; nothing where it is to none.
func (c *conversation) answer(o *maps.Outcome) string {
	for i, e := range c.waiting {
		if !e.Answers(o) {
			continue
		}
		if !o.Reply.Progress {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
		}
		switch {
		case o.Reply.Progress:
			return fmt.Sprintf("command %s is under way", e.Command)
		case o.Reply.Fault != nil:
			return fmt.Sprintf("command %s has failed: %s", e.Command, o.Reply.Fault)
		}
		return fmt.Sprintf("command %s is done: %s", e.Command, o.Reply.Result)
	}
	return ""
}

// done says which commands an outcome shows to be done.
func (c *conversation) done(o *maps.Outcome) (lines []string) {
	var still []*maps.Expectation
	for _, e := range c.waiting {
		met, err := e.Met(o)
		switch {
		case err != nil:
			lines = append(lines, fmt.Sprintf("command %s: %v", e.Command, err))
		case met:
			lines = append(lines, fmt.Sprintf("command %s is done", e.Command))
			continue
		}
		still = append(still, e)
	}
	c.waiting = still
	return lines
}

func (c *conversation) down(device, method, params string) (lines []string) {
	target, known := c.targets[device]
	if !known {
		c.t.Fatalf("nobody knows the device %s: a line says \"device %s TYPE\"", device, device)
	}
	c.sent++
	cmd := wire.Command{ID: fmt.Sprintf("c%d", c.sent), Method: method, Params: json.RawMessage(params), Attempt: 1}
	order, err := c.set.Down(c.group, target, cmd)
	if err != nil {
		return []string{"rejected: " + err.Error()}
	}
	for _, p := range order.Publications {
		lines = append(lines, fmt.Sprintf("publishes at QoS %d %s %s", p.QoS, strconv.Quote(p.Topic), p.Payload))
	}
	if order.Expect == nil {
		return append(lines, "and nobody tells what comes of it")
	}
	c.waiting = append(c.waiting, order.Expect)
	return lines
}

func written(t *testing.T, v any) string {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

// difference shows the lines that only one of two texts has.
func difference(want, got string) string {
	var out strings.Builder
	has := func(text, line string) bool { return strings.Contains("\n"+text, "\n"+line) }
	for line := range strings.Lines(want) {
		if !has(got, line) {
			out.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(got) {
		if !has(want, line) {
			out.WriteString("+ " + line)
		}
	}
	return out.String()
}

// TestPresetsBesideEachOther compiles all presets for one broker: no message is for two of them.
func TestPresetsBesideEachOther(t *testing.T) {
	var uses []presets.Use
	for _, name := range presets.Names() {
		uses = append(uses, presets.Use{Name: name})
	}
	uses[0].Options = map[string]string{"others": "z2m/#"} // of esphome
	uses = append(uses, presets.Use{Name: "zigbee2mqtt", Options: map[string]string{"base": "z2m/east", "prefix": "east-", "gateway": "z2m-east"}})
	groups, err := presets.LoadAll(uses)
	if err != nil {
		t.Fatal(err)
	}
	set, err := maps.Compile(groups)
	if err != nil {
		t.Fatal(err)
	}
	if faults := set.Prove(groups); len(faults) > 0 {
		t.Error(faults)
	}
	order, err := set.Down("zigbee2mqtt 2", maps.Target{Device: "east-lamp", Type: "zigbee"}, wire.Command{ID: "1", Method: "set", Params: json.RawMessage(`{"state":"ON"}`)})
	if err != nil || order.Publications[0].Topic != "z2m/east/lamp/set" {
		t.Errorf("a command to a device of the second gateway: %+v, %v", order, err)
	}
	if filters := set.Filters(); !slices.Contains(filters, "zigbee2mqtt/#") || !slices.Contains(filters, "tele/+/SENSOR") {
		t.Errorf("filters: %q", filters)
	}
	// The same twice is for the same messages.
	if groups, err = presets.LoadAll([]presets.Use{{Name: "tasmota"}, {Name: "tasmota"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Compile(groups); err == nil || !strings.Contains(err.Error(), "tasmota/sensor") {
		t.Errorf("one preset twice: %v", err)
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		use  presets.Use
		want string
	}{
		{presets.Use{Name: "tasmato"}, `"tasmato" is no preset: there are esphome, shelly, tasmota, zigbee2mqtt`},
		{presets.Use{Name: "zigbee2mqtt", Options: map[string]string{"basis": "x"}}, "options.basis: there is no such option; there are base, gateway, measurement, prefix"},
		{presets.Use{Name: "tasmota", Options: map[string]string{"full_topic": "home/%topic%/"}}, `options.full_topic: "home/%topic%/" has not %prefix% and %topic%`},
	} {
		if _, err := presets.Load(test.use.Name, test.use.Options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.use, err, test.want)
		}
	}
}

// TestOptionsArePutInAsTexts puts YAML into an option: it stays a text.
func TestOptionsArePutInAsTexts(t *testing.T) {
	g, err := presets.Load("zigbee2mqtt", map[string]string{"gateway": "a: b\ntype: x", "base": `"z`})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range g.Maps {
		if m.Name == "gateway" && (m.Device != "a: b\ntype: x" || m.Type != "zigbee2mqtt" || m.Topic != `"z/bridge/state`) {
			t.Errorf("%+v", m)
		}
	}
}
