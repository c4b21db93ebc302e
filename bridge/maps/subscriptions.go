package maps

import "slices"

// Filters returns the topic filters that take in all that the set is for, none of which another covers.
func (s *Set) Filters() []string {
	var all []pattern
	for _, r := range s.rules {
		plain, err := parsePattern(r.pattern.filter())
		if err == nil && !slices.ContainsFunc(all, func(p pattern) bool { return p.covers(plain) }) {
			all = slices.DeleteFunc(all, plain.covers)
			all = append(all, plain)
		}
	}
	filters := make([]string, len(all))
	for i, p := range all {
		filters[i] = p.text
	}
	slices.Sort(filters)
	return filters
}

// Meets returns a map whose topics meet a filter of MQTT, for a set whose topics are not to be those of something else.
func (s *Set) Meets(filter string) (name string, ok bool) {
	p, err := parsePattern(filter)
	if err != nil {
		return "", false
	}
	for _, r := range s.rules {
		if _, meets := r.meets(&rule{pattern: p}); meets {
			return r.title(), true
		}
	}
	return "", false
}
