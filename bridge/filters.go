package bridge

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of topics, for MQTT allows 65,535 bytes and as many levels.
const (
	longestTopic = 512
	mostLevels   = 32
)

// checkTopic says what is wrong with a topic name or, with wildcards allowed, a topic filter (MQTT 5 section 4.7).
func checkTopic(topic string, wildcards bool) error {
	switch {
	case topic == "":
		return fmt.Errorf("it is empty")
	case len(topic) > longestTopic:
		return fmt.Errorf("it has %d bytes; at most %d", len(topic), longestTopic)
	case !utf8.ValidString(topic) || strings.ContainsRune(topic, 0):
		return fmt.Errorf("it is not UTF-8 without U+0000")
	}
	levels := strings.Split(topic, "/")
	if len(levels) > mostLevels {
		return fmt.Errorf("it has %d levels; at most %d", len(levels), mostLevels)
	}
	for i, level := range levels {
		switch {
		case !strings.ContainsAny(level, "+#"):
		case !wildcards:
			return fmt.Errorf("it holds a wildcard, + or #")
		case len(level) > 1:
			return fmt.Errorf("%q: a wildcard stands alone between slashes", level)
		case level == "#" && i < len(levels)-1:
			return fmt.Errorf("# is not its last level")
		}
	}
	return nil
}

// topicMatches reports whether a filter matches a topic name. Neither begins with $.
func topicMatches(filter, topic string) bool {
	for {
		level, rest, more := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		name, below, deeper := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		switch {
		case !more && !deeper:
			return true
		case !deeper:
			return rest == "#" // it matches its parent too
		case !more:
			return false
		}
		filter, topic = rest, below
	}
}

// filterCovers reports whether all topics that inner matches are matched by outer.
func filterCovers(outer, inner string) bool {
	for {
		level, rest, more := strings.Cut(outer, "/")
		if level == "#" {
			return true
		}
		name, below, deeper := strings.Cut(inner, "/")
		if name == "#" || level != "+" && level != name {
			return false
		}
		switch {
		case !more && !deeper:
			return true
		case !deeper:
			return rest == "#"
		case !more:
			return false
		}
		outer, inner = rest, below
	}
}

// filterTree finds the subscriptions that match a topic.
type filterTree struct {
	children map[string]*filterTree    // by level, + and # too
	here     map[*mailbox]subscription // whose filter ends here
}

// set adds or replaces a subscription.
func (t *filterTree) set(filter string, of *mailbox, s subscription) {
	for level := range strings.SplitSeq(filter, "/") {
		child := t.children[level]
		if child == nil {
			child = &filterTree{}
			if t.children == nil {
				t.children = map[string]*filterTree{}
			}
			t.children[level] = child
		}
		t = child
	}
	if t.here == nil {
		t.here = map[*mailbox]subscription{}
	}
	t.here[of] = s
}

// remove takes a subscription away, and what is empty then.
func (t *filterTree) remove(filter string, of *mailbox) {
	level, rest, more := strings.Cut(filter, "/")
	child := t.children[level]
	switch {
	case child == nil:
		return
	case more:
		child.remove(rest, of)
	default:
		delete(child.here, of)
	}
	if len(child.children)+len(child.here) == 0 {
		delete(t.children, level)
	}
}

// match calls found for each subscription that matches.
func (t *filterTree) match(topic string, found func(*mailbox, subscription)) {
	each := func(at *filterTree) {
		if at == nil {
			return
		}
		for of, s := range at.here {
			found(of, s)
		}
	}
	each(t.children["#"])
	level, rest, more := strings.Cut(topic, "/")
	for _, key := range [2]string{level, "+"} {
		child := t.children[key]
		switch {
		case child == nil:
		case more:
			child.match(rest, found)
		default:
			each(child)
			each(child.children["#"]) // it matches its parent too
		}
	}
}
