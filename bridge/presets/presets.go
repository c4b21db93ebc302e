package presets

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	language "telemetryhub/bridge/maps"
)

//go:embed *.yaml
var files embed.FS

// preset is a file of this folder, after its name and its options.
type preset struct {
	Ignore   []string           `yaml:"ignore"`
	Maps     []language.Map     `yaml:"maps"`
	Commands []language.Command `yaml:"commands"`
}

// Names returns the names of all presets, in order.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // an embedded folder can be read
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), ".yaml"))
	}
	return names
}

// Load returns the maps and commands of a preset with these options; those that are not given have their defaults. The
// group's name is the preset's.
func Load(name string, options map[string]string) (language.Group, error) {
	text, err := Text(name, options)
	if err != nil {
		return language.Group{}, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var p preset
	if err := decoder.Decode(&p); err != nil {
		return language.Group{}, fmt.Errorf("preset %s: %w", name, err)
	}
	return language.Group{Name: name, Ignore: p.Ignore, Maps: p.Maps, Commands: p.Commands}, nil
}

// Text returns a preset with these options as it would stand in the section of a broker, to be read and copied: the keys
// ignore, maps and commands, with comments.
func Text(name string, options map[string]string) ([]byte, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("%q is no preset: there are %s", name, strings.Join(Names(), ", "))
	}
	source, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("preset %s: %w", name, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(source, &root); err != nil {
		return nil, fmt.Errorf("preset %s: %w", name, err)
	}
	values, err := optionsOf(&root, options)
	if err == nil {
		err = substitute(&root, values)
	}
	if err != nil {
		return nil, fmt.Errorf("preset %s: %w", name, err)
	}
	section := root.Content[0]
	const head = 4 // the keys preset and options with their values
	section.Content = section.Content[head:]
	text, err := yaml.Marshal(&root)
	if err != nil {
		return nil, fmt.Errorf("preset %s: %w", name, err)
	}
	return text, nil
}

// Use is a preset that a broker's configuration names.
type Use struct {
	Name    string
	Options map[string]string
}

// LoadAll returns the groups of presets; a preset that is used again, with other options, is called "NAME 2" and so on.
// The error names all that is wrong.
func LoadAll(uses []Use) ([]language.Group, error) {
	var groups []language.Group
	var faults []error
	times := map[string]int{}
	for _, use := range uses {
		g, err := Load(use.Name, use.Options)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		times[use.Name]++
		g.Name = Title(use.Name, times[use.Name])
		groups = append(groups, g)
	}
	return groups, errors.Join(faults...)
}

// Title is the name of the group that the nth use of a preset makes, from 1.
func Title(name string, nth int) string {
	if nth > 1 {
		return fmt.Sprintf("%s %d", name, nth)
	}
	return name
}

// optionsOf returns what stands for the names in ${}: the options, given or by default, and what is made of them.
func optionsOf(root *yaml.Node, given map[string]string) (map[string]string, error) {
	var head struct {
		Options map[string]string `yaml:"options"`
	}
	if err := root.Decode(&head); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	values := maps.Clone(head.Options)
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, known := head.Options[name]; !known {
			faults = append(faults, fmt.Errorf("options.%s: there is no such option; there are %s", name, strings.Join(slices.Sorted(maps.Keys(head.Options)), ", ")))
			continue
		}
		values[name] = given[name]
	}
	if _, has := head.Options["full_topic"]; has {
		faults = append(faults, spellTopics(values))
	}
	return values, errors.Join(faults...)
}

// spellTopics makes the beginnings of Tasmota's topics out of its FullTopic and the three prefixes.
func spellTopics(values map[string]string) error {
	full := values["full_topic"]
	if !strings.HasSuffix(full, "/") {
		full += "/"
	}
	if strings.Count(full, "%prefix%") != 1 || strings.Count(full, "%topic%") != 1 {
		return fmt.Errorf("options.full_topic: %q has not %%prefix%% and %%topic%%, each once: without them nobody can tell what a topic is, or whose", values["full_topic"])
	}
	full = strings.NewReplacer("%topic%", "{device}", "%hostname%", "+", "%id%", "+").Replace(full)
	for name, option := range map[string]string{"command": "prefix_command", "status": "prefix_status", "telemetry": "prefix_telemetry"} {
		values[name] = strings.ReplaceAll(full, "%prefix%", values[option])
	}
	return nil
}

// substitute puts values in the place of ${name} in all texts below options.
func substitute(node *yaml.Node, values map[string]string) error {
	if node.Kind == yaml.ScalarNode && strings.Contains(node.Value, "${") {
		for name, value := range values {
			node.Value = strings.ReplaceAll(node.Value, "${"+name+"}", value)
		}
		if _, rest, open := strings.Cut(node.Value, "${"); open {
			name, _, _ := strings.Cut(rest, "}")
			return fmt.Errorf("line %d: there is no option %s", node.Line, name)
		}
	}
	for _, inner := range node.Content {
		if err := substitute(inner, values); err != nil {
			return err
		}
	}
	return nil
}
