package commands

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// masked stands for a secret in what a device answered.
const masked = "[secret]"

// Public returns the command as people may see it: its params without what the catalogue called secret when it was
// recorded, and the same values not in what the device answered either. Params are what the device gets.
func (c Command) Public() Command {
	if c.Masked == nil {
		return c
	}
	secrets := secretsOf(c.Params, c.Masked)
	c.Params, c.Masked = c.Masked, nil
	c.Result, c.Error = hide(c.Result, secrets), hide(c.Error, secrets)
	if c.Progress != nil {
		c.Progress = &Progress{Percent: c.Progress.Percent, Message: hideText(c.Progress.Message, secrets)}
	}
	c.History = slices.Clone(c.History)
	for i := range c.History {
		c.History[i].Cause = hideText(c.History[i].Cause, secrets)
	}
	return c
}

// secretsOf returns the texts and numbers of params that are not in what is shown of them, the longest first.
func secretsOf(params, shown json.RawMessage) (secrets []string) {
	var collect func(whole, shown any)
	collect = func(whole, shown any) {
		switch whole := whole.(type) {
		case string:
			if text, ok := shown.(string); whole != "" && (!ok || text != whole) {
				secrets = append(secrets, whole)
			}
		case json.Number:
			if n, ok := shown.(json.Number); !ok || n != whole {
				secrets = append(secrets, string(whole))
			}
		case []any:
			list, _ := shown.([]any)
			for i, inner := range whole {
				var beside any
				if i < len(list) {
					beside = list[i]
				}
				collect(inner, beside)
			}
		case map[string]any:
			object, _ := shown.(map[string]any)
			for name, inner := range whole {
				collect(inner, object[name])
			}
		}
	}
	collect(decode(params), decode(shown))
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return secrets
}

func decode(text json.RawMessage) (v any) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	_ = dec.Decode(&v) // the ledger holds JSON only
	return v
}

// hide writes a device's JSON anew without the secrets. What cannot be read is left out whole.
func hide(text json.RawMessage, secrets []string) json.RawMessage {
	if text == nil {
		return nil
	}
	hidden, err := encodeJSON(hideIn(decode(text), secrets))
	if err != nil {
		return json.RawMessage(`"` + masked + `"`)
	}
	return hidden
}

func hideIn(v any, secrets []string) any {
	switch v := v.(type) {
	case string:
		return hideText(v, secrets)
	case json.Number:
		if slices.Contains(secrets, string(v)) {
			return masked
		}
	case []any:
		for i := range v {
			v[i] = hideIn(v[i], secrets)
		}
	case map[string]any:
		shown := make(map[string]any, len(v))
		for name, inner := range v {
			shown[hideText(name, secrets)] = hideIn(inner, secrets)
		}
		return shown
	}
	return v
}

// leastHidden is the length in bytes from which a secret is looked for within other texts: shorter ones stand in too
// many of them by chance, and are hidden where they are all of the text.
const leastHidden = 4

func hideText(text string, secrets []string) string {
	for _, secret := range secrets {
		switch {
		case text == secret:
			return masked
		case len(secret) >= leastHidden:
			text = strings.ReplaceAll(text, secret, masked)
		}
	}
	return text
}
