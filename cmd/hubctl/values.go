package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
)

// parseParams joins --params and the key=value words into the params of a command; nil when there are none. schema is
// asked for what the words mean, if there are any.
func parseParams(params string, words []string, schema func() paramSchema) (json.RawMessage, error) {
	if name, ok := strings.CutPrefix(params, "@"); ok {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, usageError("--params: %v", err)
		}
		params = string(data)
	}
	whole := json.RawMessage(strings.TrimSpace(params))
	if len(whole) > 0 {
		if !json.Valid(whole) || (whole[0] != '{' && whole[0] != '[') {
			return nil, usageError("--params is not a JSON object or array: %s", clean(shorten(params)))
		}
		if len(words) == 0 {
			return whole, nil
		}
	}
	if len(words) == 0 {
		return nil, nil
	}
	members := map[string]json.RawMessage{}
	if len(whole) > 0 {
		if err := json.Unmarshal(whole, &members); err != nil {
			return nil, usageError("key=value can be added to --params only if that is an object")
		}
	}
	var types *paramSchema
	given := map[string]bool{}
	for _, word := range words {
		key, text, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, usageError("%q is not key=value (or use --params JSON)", clean(word))
		}
		if given[key] {
			return nil, usageError("%s is given twice", clean(key))
		}
		given[key] = true
		if types == nil {
			asked := schema()
			types = &asked
		}
		members[key] = types.typedBy(key, text)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(members); err != nil {
		return nil, usageError("the values cannot be written as JSON: %v", err)
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// typed takes a value as JSON if it is JSON (numbers, true, false, null, "text", {…}, […]), and else as text.
func typed(text string) json.RawMessage {
	if trimmed := strings.TrimSpace(text); trimmed != "" && json.Valid([]byte(trimmed)) {
		return json.RawMessage(trimmed)
	}
	return quoted(text)
}

func quoted(text string) json.RawMessage {
	value, err := json.Marshal(text)
	if err != nil { // a string always has a JSON form
		return json.RawMessage(`""`)
	}
	return value
}

func shorten(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
