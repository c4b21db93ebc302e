package auth

import (
	"fmt"
	"slices"
)

// Bounds of a scope. A tag is as long as the registry of devices takes it.
const (
	maxScopeTags = 64
	maxScopeTag  = 128 // bytes
)

// Scope is which devices an operator sees and commands: those that bear one of its tags. The zero Scope is all devices.
// Its tags are not changed once it was given out.
type Scope struct {
	Tags []string `json:"tags"`
}

// All reports whether the scope is all devices.
func (s Scope) All() bool { return len(s.Tags) == 0 }

// Includes reports whether a device with these tags is in the scope.
func (s Scope) Includes(tags []string) bool {
	return s.All() || slices.ContainsFunc(tags, func(tag string) bool { return slices.Contains(s.Tags, tag) })
}

// Covers reports whether every device that is in a scope of these tags, none of which is all devices, is in s.
func (s Scope) Covers(tags []string) bool {
	if s.All() {
		return true
	}
	return len(tags) > 0 && !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(s.Tags, tag) })
}

// Equal reports whether both are of the same devices.
func (s Scope) Equal(other Scope) bool { return slices.Equal(s.Tags, other.Tags) }

// normal returns the scope with its tags sorted, each once, or an *InvalidOperatorError.
func (s Scope) normal() (Scope, error) {
	if len(s.Tags) > maxScopeTags {
		return s, &InvalidOperatorError{Field: "scope.tags", Message: fmt.Sprintf("%d tags; at most %d", len(s.Tags), maxScopeTags)}
	}
	for i, tag := range s.Tags {
		if tag == "" || len(tag) > maxScopeTag {
			return s, &InvalidOperatorError{Field: fmt.Sprintf("scope.tags[%d]", i), Message: fmt.Sprintf("a tag has 1 to %d bytes, this one %d", maxScopeTag, len(tag))}
		}
	}
	tags := slices.Clone(s.Tags)
	slices.Sort(tags)
	return Scope{Tags: slices.Compact(tags)}, nil
}
