package maps

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// pattern is which topics a map is for. A level is a text, a text with one {name} in it, or +. One may be {name...} or #: as
// the last it stands for all levels that follow, also none; before others, which are texts or +, for one level or more.
type pattern struct {
	text   string
	levels []level
	tail   []string // the levels after a levelRest
}

type levelKind uint8

const (
	levelText levelKind = iota
	levelOne            // prefix, any text, suffix
	levelRest
)

type level struct {
	kind           levelKind
	text           string // of levelText
	prefix, suffix string
	name           string // "" of one that is not named
}

// Var is what a {name} of a pattern stands for in a topic.
type Var struct{ Name, Value string }

// Vars are those of one topic, in the order of the pattern.
type Vars []Var

// Get returns the value of a name.
func (v Vars) Get(name string) (string, bool) {
	for _, one := range v {
		if one.Name == name {
			return one.Value, true
		}
	}
	return "", false
}

// maxTopic bounds a topic, in bytes (MQTT 3.1.1 section 1.5.3).
const maxTopic = 65535

func parsePattern(text string) (pattern, error) {
	p := pattern{text: text}
	switch {
	case text == "":
		return p, errors.New("is needed")
	case len(text) > maxTopic || !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return p, errors.New("is not a topic: up to 65535 bytes of UTF-8 without NUL")
	}
	names := map[string]bool{}
	parts := strings.Split(text, "/")
	for i, part := range parts {
		l, err := parseLevel(part)
		if err != nil {
			return p, fmt.Errorf("%q: level %q %w", text, part, err)
		}
		if l.kind == levelRest && i < len(parts)-1 {
			p.tail = parts[i+1:]
			if part == "#" || slices.ContainsFunc(p.tail, func(of string) bool { return of != "+" && strings.ContainsAny(of, "+#{}") }) {
				return p, fmt.Errorf("%q: %s stands for many levels: # can only be the last level, {name...} also before levels that are texts or +", text, part)
			}
		}
		if l.name != "" && names[l.name] {
			return p, fmt.Errorf("%q: {%s} stands there twice", text, l.name)
		}
		names[l.name] = true
		p.levels = append(p.levels, l)
		if l.kind == levelRest {
			break
		}
	}
	return p, nil
}

func parseLevel(part string) (level, error) {
	switch part {
	case "+":
		return level{kind: levelOne}, nil
	case "#":
		return level{kind: levelRest}, nil
	}
	prefix, rest, named := strings.Cut(part, "{")
	if !named {
		if strings.ContainsAny(part, "+#}") {
			return level{}, errors.New("has a wildcard or a brace within; + and # are whole levels")
		}
		return level{kind: levelText, text: part}, nil
	}
	name, suffix, closed := strings.Cut(rest, "}")
	if !closed || strings.ContainsAny(prefix+suffix, "+#{}") {
		return level{}, errors.New("is not a text with one {name}")
	}
	l := level{kind: levelOne, prefix: prefix, suffix: suffix, name: name}
	if of, rest := strings.CutSuffix(name, "..."); rest {
		l.kind, l.name = levelRest, of
		if prefix != "" || suffix != "" {
			return level{}, errors.New("is not {name...} alone")
		}
	}
	if !isName(l.name) {
		return level{}, fmt.Errorf("has the name %q, which is not of a-z, 0-9 and _ with a letter first", l.name)
	}
	if isReserved(l.name) {
		return level{}, fmt.Errorf("has the name %q, which means something else in templates", l.name)
	}
	return l, nil
}

func isName(text string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return text != ""
}

// isReserved reports whether a name stands for something else than a level.
func isReserved(name string) bool {
	switch name {
	case "id", "command", "method", "params", "topic":
		return true
	}
	return false
}

// names returns the names of the pattern's levels.
func (p pattern) names() []string {
	var names []string
	for _, l := range p.levels {
		if l.name != "" {
			names = append(names, l.name)
		}
	}
	return names
}

// filter returns the topic filter of MQTT that takes in all topics of the pattern.
func (p pattern) filter() string {
	parts := make([]string, len(p.levels))
	for i, l := range p.levels {
		switch l.kind {
		case levelText:
			parts[i] = l.text
		case levelOne:
			parts[i] = "+"
		case levelRest:
			parts[i] = "#"
		}
	}
	return strings.Join(parts, "/")
}

// match appends the values of the pattern's names to vars, which it returns unchanged where the topic does not match. A
// wildcard in the first level matches no topic that begins with $ (MQTT 3.1.1 section 4.7.2).
func (p pattern) match(topic string, vars Vars) (Vars, bool) {
	found, rest, more := vars, topic, true
	for i, l := range p.levels {
		if l.kind == levelRest {
			if i == 0 && strings.HasPrefix(topic, "$") {
				return vars, false
			}
			if rest, ok := p.cutTail(rest); !ok {
				return vars, false
			} else if l.name != "" {
				found = append(found, Var{l.name, rest})
			}
			return found, true
		}
		if !more {
			return vars, false
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		switch {
		case l.kind == levelText:
			if part != l.text {
				return vars, false
			}
		case i == 0 && strings.HasPrefix(part, "$") && l.prefix == "", !l.takes(part):
			return vars, false
		case l.name != "":
			found = append(found, Var{l.name, part[len(l.prefix) : len(part)-len(l.suffix)]})
		}
	}
	if more {
		return vars, false
	}
	return found, true
}

// cutTail takes the levels after {name...} from the rest of a topic.
func (p pattern) cutTail(rest string) (string, bool) {
	for _, text := range slices.Backward(p.tail) {
		slash := strings.LastIndexByte(rest, '/')
		if slash < 0 || text != "+" && text != rest[slash+1:] {
			return rest, false
		}
		rest = rest[:slash]
	}
	return rest, true
}

func (l level) takes(part string) bool {
	return len(part) >= len(l.prefix)+len(l.suffix) && strings.HasPrefix(part, l.prefix) && strings.HasSuffix(part, l.suffix)
}

// meet returns the pattern of the topics that both match; ok is false where there is none. Where two levels each have a
// text around a name, what both take is described by the longer texts, which is exact but for texts that overlap.
func (p pattern) meet(other pattern) (both pattern, ok bool) {
	if len(p.tail) > 0 || len(other.tail) > 0 {
		return p.meetTail(other)
	}
	for i := 0; ; i++ {
		endP, endOther := i == len(p.levels), i == len(other.levels)
		switch {
		case endP && endOther:
			return both.named(), true
		case !endP && p.levels[i].kind == levelRest:
			both.levels = append(both.levels, other.levels[i:]...)
			return both.named(), i > 0 || !other.isSystem()
		case !endOther && other.levels[i].kind == levelRest:
			both.levels = append(both.levels, p.levels[i:]...)
			return both.named(), i > 0 || !p.isSystem()
		case endP || endOther:
			return both, false
		}
		l, met := p.levels[i].meet(other.levels[i])
		if !met || i == 0 && l.kind == levelText && strings.HasPrefix(l.text, "$") && (p.levels[0].prefix+p.levels[0].text == "" || other.levels[0].prefix+other.levels[0].text == "") {
			return both, false
		}
		both.levels = append(both.levels, l)
	}
}

// meetTail is meet where one has levels after {name...}.
func (p pattern) meetTail(other pattern) (both pattern, ok bool) {
	if len(p.tail) == 0 {
		p, other = other, p
	}
	head := len(p.levels) - 1
	of := other.levels
	if n := len(of); n == 0 || of[n-1].kind != levelRest {
		// The other is of a fixed length: its last levels are the tail's, and one or more stand for {name...}.
		if n < head+1+len(p.tail) {
			return both, false
		}
		long := slices.Clone(p.levels[:head])
		for range n - head - len(p.tail) {
			long = append(long, level{kind: levelOne})
		}
		for _, text := range p.tail {
			long = append(long, tailLevel(text))
		}
		return pattern{levels: long}.meet(other)
	}
	if both, ok = (pattern{levels: p.levels}).meet(pattern{levels: of}); !ok {
		return both, false
	}
	long, short := p.tail, other.tail
	if len(long) < len(short) {
		long, short = short, long
	}
	both.tail = slices.Clone(long)
	for i, text := range short {
		of := &both.tail[len(long)-len(short)+i]
		switch {
		case *of == "+":
			*of = text
		case text != "+" && text != *of:
			return both, false
		}
	}
	return both.named(), true
}

func tailLevel(text string) level {
	if text == "+" {
		return level{kind: levelOne}
	}
	return level{kind: levelText, text: text}
}

func (p pattern) isSystem() bool {
	return len(p.levels) > 0 && (strings.HasPrefix(p.levels[0].text, "$") || strings.HasPrefix(p.levels[0].prefix, "$"))
}

func (p pattern) named() pattern {
	p.text = strings.Join(append([]string{p.filter()}, p.tail...), "/")
	return p
}

func (l level) meet(other level) (level, bool) {
	switch {
	case l.kind == levelText && other.kind == levelText:
		return l, l.text == other.text
	case l.kind == levelText:
		return l, other.takes(l.text)
	case other.kind == levelText:
		return other, l.takes(other.text)
	}
	long, short := l.prefix, other.prefix
	if len(long) < len(short) {
		long, short = short, long
	}
	longEnd, shortEnd := l.suffix, other.suffix
	if len(longEnd) < len(shortEnd) {
		longEnd, shortEnd = shortEnd, longEnd
	}
	return level{kind: levelOne, prefix: long, suffix: longEnd}, strings.HasPrefix(long, short) && strings.HasSuffix(longEnd, shortEnd)
}

// covers reports whether p matches all topics that other matches.
func (p pattern) covers(other pattern) bool {
	for i, l := range p.levels {
		if l.kind == levelRest {
			return (i > 0 || !other.isSystem()) && p.coversTail(other, i)
		}
		if i == len(other.levels) {
			return false
		}
		o := other.levels[i]
		switch {
		case o.kind == levelRest:
			return false
		case l.kind == levelText:
			if o.kind != levelText || o.text != l.text {
				return false
			}
		case o.kind == levelText:
			if !l.takes(o.text) || i == 0 && l.prefix == "" && other.isSystem() {
				return false
			}
		case !strings.HasPrefix(o.prefix, l.prefix) || !strings.HasSuffix(o.suffix, l.suffix):
			return false
		}
	}
	return len(p.levels) == len(other.levels)
}

// coversTail reports whether all topics of other end as p does, with one level or more between their first levels and that.
func (p pattern) coversTail(other pattern, head int) bool {
	if len(p.tail) == 0 {
		return true
	}
	ends := other.tail
	if n := len(other.levels); n > 0 && other.levels[n-1].kind != levelRest {
		if n < head+1+len(p.tail) {
			return false
		}
		for _, l := range other.levels[n-len(p.tail):] {
			ends = append(ends, l.text) // "" of one that is no text
		}
	}
	if len(ends) < len(p.tail) {
		return false
	}
	for i, text := range p.tail {
		if text != "+" && text != ends[len(ends)-len(p.tail)+i] {
			return false
		}
	}
	return true
}

// miss says how far a topic goes along with the pattern, and what then differs.
func (p pattern) miss(topic string) (levels int, why string) {
	parts := strings.Split(topic, "/")
	for i, l := range p.levels {
		if l.kind == levelRest {
			if rest := strings.Join(parts[min(i, len(parts)):], "/"); len(p.tail) > 0 {
				if _, ends := p.cutTail(rest); !ends {
					return i, fmt.Sprintf("the topic does not end with %q after one level or more", strings.Join(p.tail, "/"))
				}
			}
			return i, ""
		}
		if i == len(parts) {
			return i, fmt.Sprintf("the topic ends after level %d, and the pattern goes on with %q", i, p.part(i))
		}
		if l.kind == levelText && l.text != parts[i] || l.kind == levelOne && !l.takes(parts[i]) {
			return i, fmt.Sprintf("level %d is %q, and the pattern has %q", i+1, parts[i], p.part(i))
		}
	}
	if len(parts) > len(p.levels) {
		return len(p.levels), fmt.Sprintf("the topic goes on with %q, and the pattern ends after level %d", parts[len(p.levels)], len(p.levels))
	}
	return len(p.levels), ""
}

func (p pattern) part(i int) string { return strings.Split(p.text, "/")[i] }

// checkTopic says what is wrong with the topic of a message.
func checkTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("the topic is empty")
	case len(topic) > maxTopic:
		return fmt.Errorf("the topic has %d bytes; at most %d", len(topic), maxTopic)
	}
	for i, r := range topic {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(topic[i:], string(utf8.RuneError)):
			return fmt.Errorf("the topic is not UTF-8 at byte %d", i)
		case r == 0:
			return fmt.Errorf("the topic has NUL at byte %d", i)
		case r == '+' || r == '#':
			return fmt.Errorf("the topic has the wildcard %c at byte %d", r, i)
		}
	}
	return nil
}
