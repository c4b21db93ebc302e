package bridge

import (
	"strings"
	"testing"
)

func TestCheckTopic(t *testing.T) {
	for topic, want := range map[string][2]bool{ // as a name, as a filter
		"a": {true, true}, "/": {true, true}, "a//b": {true, true}, "a b/ü": {true, true}, "/a": {true, true},
		"": {}, "a\x00": {}, "\xff": {}, strings.Repeat("a", 513): {}, strings.Repeat("/", 32): {},
		"#": {false, true}, "+": {false, true}, "a/#": {false, true}, "+/+/#": {false, true}, "a/+/b": {false, true},
		"a#": {}, "a/#/b": {}, "a+": {}, "a/+b": {}, "##": {}, strings.Repeat("a/", 31) + "a": {true, true},
	} {
		if got := [2]bool{checkTopic(topic, false) == nil, checkTopic(topic, true) == nil}; got != want {
			t.Errorf("%.20q: name and filter %v, want %v", topic, got, want)
		}
	}
}

// The examples of MQTT 5 section 4.7.1.
func TestTopicMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"sport/#", "sports", false},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
		{"A", "a", false},
	} {
		if got := topicMatches(c.filter, c.topic); got != c.want {
			t.Errorf("%s and %s: %v", c.filter, c.topic, got)
		}
		var tree filterTree
		m := &mailbox{}
		tree.set(c.filter, m, subscription{filter: c.filter})
		found := false
		tree.match(c.topic, func(*mailbox, subscription) { found = true })
		if found != c.want {
			t.Errorf("%s and %s in the tree: %v", c.filter, c.topic, found)
		}
		tree.remove("a/x/y", m)
		tree.remove(c.filter, m)
		if len(tree.children) > 0 {
			t.Errorf("%s leaves %v", c.filter, tree.children)
		}
	}
}

// FuzzFilterCovers holds what covers to what matches: a topic that inner matches, outer matches too.
func FuzzFilterCovers(f *testing.F) {
	f.Add("plant/#", "plant/+/mode", "plant/a/mode")
	f.Add("plant/+", "plant/#", "plant")
	f.Add("a/+/#", "a/b", "a/b")
	f.Fuzz(func(t *testing.T, outer, inner, topic string) {
		if checkTopic(outer, true) != nil || checkTopic(inner, true) != nil || checkTopic(topic, false) != nil {
			return
		}
		if filterCovers(outer, inner) && topicMatches(inner, topic) && !topicMatches(outer, topic) {
			t.Errorf("%q covers %q, and %q is matched by the latter alone", outer, inner, topic)
		}
		if !filterCovers(inner, inner) {
			t.Errorf("%q does not cover itself", inner)
		}
		if topicMatches(outer, topic) != filterCovers(outer, topic) {
			t.Errorf("%q and the topic %q: matched or covered alone", outer, topic)
		}
	})
}

func TestFilterCovers(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"plant/#", "plant/#", true},
		{"plant/#", "plant", true},
		{"plant/#", "plant/+/mode", true},
		{"plant/#", "#", false},
		{"plant/#", "+/mode", false},
		{"plant/+/mode", "plant/a/mode", true},
		{"plant/+/mode", "plant/+/mode", true},
		{"plant/+/mode", "plant/#", false},
		{"plant/+/mode", "plant/+/+", false},
		{"plant/+", "plant/a/b", false},
		{"plant/+", "plant", false},
		{"plant/+/#", "plant/+", true},
		{"plant/a", "plant/+", false},
	} {
		if got := filterCovers(c.outer, c.inner); got != c.want {
			t.Errorf("%s covers %s: %v", c.outer, c.inner, got)
		}
	}
}

func TestStarMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"press-7", "press-7", true},
		{"press-7", "press-70", false},
		{"press-*", "press-70", true},
		{"press-*", "press-", true},
		{"*-7", "press-7", true},
		{"*", "x", true},
		{"p*s*7", "press-7", true},
		{"p*s*7", "press-8", false},
		{"a*a", "a", false},
		{"*x*", "abc", false},
	} {
		if got := starMatches(c.pattern, c.text); got != c.want {
			t.Errorf("%s and %s: %v", c.pattern, c.text, got)
		}
	}
}
