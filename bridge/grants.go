package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"telemetryhub/devices"
)

// Grant lets some devices use topics beside their own, so that they talk to each other.
type Grant struct {
	// Devices says which: all, tag=TAG, type=TYPE, or a device id in which * stands for any text.
	Devices string `yaml:"devices"`
	// Publish and Subscribe are topic filters. {device} in them is the device's own id.
	Publish   []string `yaml:"publish"`
	Subscribe []string `yaml:"subscribe"`
	Retain    bool     `yaml:"retain"` // what they publish may be retained
}

// deviceTemplate stands in a grant for the id of the device that uses it.
const deviceTemplate = "{device}"

// MostGrants bounds what is looked through for each message.
const MostGrants = 100

// Faults returns all that is wrong with a grant.
func (g Grant) Faults() (faults []error) {
	if err := g.checkDevices(); err != nil {
		faults = append(faults, err)
	}
	if len(g.Publish)+len(g.Subscribe) == 0 {
		faults = append(faults, errors.New("publish, subscribe: neither names a topic"))
	}
	if g.Retain && len(g.Publish) == 0 {
		faults = append(faults, errors.New("retain: nothing is published that could be retained"))
	}
	for _, l := range []struct {
		key     string
		filters []string
	}{{"publish", g.Publish}, {"subscribe", g.Subscribe}} {
		for i, f := range l.filters {
			if err := checkGranted(f); err != nil {
				faults = append(faults, fmt.Errorf("%s[%d]: %q: %w", l.key, i, f, err))
			}
		}
	}
	return faults
}

func (g Grant) checkDevices() error {
	name, value, named := strings.Cut(g.Devices, "=")
	switch {
	case g.Devices == "":
		return errors.New("devices: names none; all, tag=TAG, type=TYPE or an id in which * stands for any text")
	case named && name != "tag" && name != "type":
		return fmt.Errorf("devices: %q is neither tag=TAG nor type=TYPE", g.Devices)
	case named && value == "":
		return fmt.Errorf("devices: %q names no %s", g.Devices, name)
	case !named && strings.Trim(g.Devices, "*abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") != "":
		return fmt.Errorf("devices: %q is not a device id: letters, digits and ._:- (and * for any text)", g.Devices)
	}
	return nil
}

// checkGranted refuses a filter that could reach topics of the hub: those of devices, and what begins with $.
func checkGranted(filter string) error {
	if rest := strings.ReplaceAll(filter, deviceTemplate, ""); strings.ContainsAny(rest, "{}") {
		return errors.New("the one template is " + deviceTemplate)
	}
	// As long as it can become: an id has at most 64 bytes.
	if err := checkTopic(strings.ReplaceAll(filter, deviceTemplate, strings.Repeat("d", 64)), true); err != nil {
		return err
	}
	first, _, _ := strings.Cut(filter, "/")
	switch {
	case first == "+" || first == "#" || strings.Contains(first, deviceTemplate):
		return errors.New("its first level must be written out, so that it cannot reach the topics of devices")
	case first == ownPrefix:
		return fmt.Errorf("topics below %s/ are between each device and the hub; a device has its own without a grant", ownPrefix)
	case strings.HasPrefix(first, "$"):
		return errors.New("topics that begin with $ are not for devices")
	}
	return nil
}

// covers reports whether the grant is for d.
func (g Grant) covers(d *devices.Device) bool {
	if tag, ok := strings.CutPrefix(g.Devices, "tag="); ok {
		return slices.Contains(d.Tags, tag)
	}
	if kind, ok := strings.CutPrefix(g.Devices, "type="); ok {
		return d.Type == kind
	}
	return g.Devices == "all" || starMatches(g.Devices, d.ID)
}

// starMatches reports whether text matches a pattern in which * stands for any text.
func starMatches(pattern, text string) bool {
	begin, rest, starred := strings.Cut(pattern, "*")
	if !starred {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, begin)
	for ok {
		var part string
		if part, rest, starred = strings.Cut(rest, "*"); !starred {
			return strings.HasSuffix(text, part)
		}
		_, text, ok = strings.Cut(text, part)
	}
	return false
}

// grants are those of a hub.
type grants []Grant

// forOf is a granted filter with the device's id in it.
func forOf(filter, device string) string { return strings.ReplaceAll(filter, deviceTemplate, device) }

// mayPublish reports whether d may publish on topic, and have that retained.
func (all grants) mayPublish(d *devices.Device, topic string) (may, retain bool) {
	for _, g := range all {
		if may && (retain || !g.Retain) || !g.covers(d) {
			continue
		}
		for _, f := range g.Publish {
			if topicMatches(forOf(f, d.ID), topic) {
				may, retain = true, retain || g.Retain
				break
			}
		}
	}
	return may, retain
}

// maySubscribe reports whether one grant of d covers all that filter matches, which may be a topic's name.
func (all grants) maySubscribe(d *devices.Device, filter string) bool {
	return slices.ContainsFunc(all, func(g Grant) bool {
		return g.covers(d) && slices.ContainsFunc(g.Subscribe, func(f string) bool { return filterCovers(forOf(f, d.ID), filter) })
	})
}
