package state

import (
	"maps"
	"strconv"
	"time"
)

// merge applies a merge patch (RFC 7396 section 2). A target that is absent is nil.
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged := map[string]any{}
	if object, ok := target.(map[string]any); ok {
		merged = maps.Clone(object)
	}
	for name, change := range changes {
		if change == nil {
			delete(merged, name)
		} else {
			merged[name] = merge(merged[name], change)
		}
	}
	return merged
}

// mergeObject is merge where both are objects.
func mergeObject(target, patch map[string]any) map[string]any {
	merged, _ := merge(target, patch).(map[string]any)
	return merged
}

// diff returns the smallest merge patch that makes from into to, empty where they are the same. An object of a document
// has no member that is null: merge leaves none.
func diff(from, to map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range from {
		if _, stays := to[name]; !stays {
			patch[name] = nil
		}
	}
	for name, now := range to {
		before, known := from[name]
		if known && same(before, now) {
			continue
		}
		a, wasObject := before.(map[string]any)
		b, isObject := now.(map[string]any)
		if wasObject && isObject {
			patch[name] = diff(a, b)
			continue
		}
		patch[name] = now
	}
	return patch
}

// delta returns the merge patch of what in desired is not in reported or differs there, empty where nothing does. What
// only reported has is left alone.
func delta(desired, reported map[string]any) map[string]any {
	patch := map[string]any{}
	for name, want := range desired {
		have, known := reported[name]
		a, wantsObject := want.(map[string]any)
		b, hasObject := have.(map[string]any)
		switch {
		case known && wantsObject && hasObject:
			if inner := delta(a, b); len(inner) > 0 {
				patch[name] = inner
			}
		case !known || !same(want, have):
			patch[name] = want
		}
	}
	return patch
}

// timesOf returns a merge patch for the times of a document: each value of patch is at, Unix ms; what is removed is
// removed there. A list is one value.
func timesOf(patch map[string]any, at time.Time) map[string]any {
	times := make(map[string]any, len(patch))
	for name, change := range patch {
		switch change := change.(type) {
		case nil:
			times[name] = nil
		case map[string]any:
			times[name] = timesOf(change, at)
		default:
			times[name] = number(strconv.FormatInt(at.UnixMilli(), 10))
		}
	}
	return times
}
