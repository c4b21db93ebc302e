package store

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxMessage bounds the words of a server in an error of ours; they may quote whole batches.
const maxMessage = 2 << 10

// writeOutcome turns the answer to a write into one of the outcomes. Only 204 is success: a proxy's login page answers
// 200 to everything, and what it took would be gone.
func writeOutcome(a *answer, err error, lines []byte) error {
	if err == nil && a.status == http.StatusNoContent {
		return nil
	}
	if a.status == 0 {
		return &RetryError{Err: fmt.Errorf("write: %w", err)}
	}
	text, line := a.message()
	switch {
	case a.status == http.StatusRequestEntityTooLarge:
		return &TooLargeError{Size: len(lines), Message: short(text)}
	case a.status == http.StatusBadRequest, a.status == http.StatusUnprocessableEntity,
		a.status >= 500 && badPoints(text):
		if line < 0 {
			line = quotedLine(text, lines)
		}
		return &RejectedError{Line: line, Message: short(text)}
	}
	return otherOutcome("write", a, text)
}

// otherOutcome is what an answer means that is not about the data: configuration, or another time.
func otherOutcome(operation string, a *answer, text string) error {
	mend := ""
	switch a.status {
	case http.StatusUnauthorized:
		mend = "set a valid token (InfluxDB 1.8: user:password)"
	case http.StatusForbidden:
		mend = "give the token the right to read and write the bucket"
	case http.StatusNotFound:
		mend = "create the bucket or database on the server, or correct org, bucket and url"
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		mend = "set url to an InfluxDB server: this one does not know the request"
	default:
		switch a.status / 100 {
		case 2:
			text, mend = "the answer is not InfluxDB's", "set url to an InfluxDB server: this one is something else, or a proxy answers for it"
		case 3:
			text, mend = "the server redirects to "+a.header.Get("Location"), "set url to the final address"
		}
	}
	if mend != "" {
		return &ConfigError{Status: a.status, Message: operation + ": " + short(text), Mend: mend}
	}
	return &RetryError{
		After: a.retryAfter(time.Now()),
		Err:   fmt.Errorf("%s: status %d: %s", operation, a.status, short(text)),
	}
}

// badPoints knows by its words an answer of 500 that is about the points: early 2.x and some compatible servers answer
// so, and what is tried again for ever stops all others.
func badPoints(text string) bool {
	return strings.Contains(text, "field type conflict") || strings.Contains(text, "unable to parse")
}

// quotedLine finds the first line that the message quotes, as 1.8 does: unable to parse 'LINE': reason.
func quotedLine(message string, lines []byte) int {
	const opening = "unable to parse '"
	if !strings.Contains(message, opening) {
		return -1
	}
	index := 0
	for line := range bytes.Lines(lines) {
		text := string(bytes.TrimSpace(line))
		if text != "" && strings.Contains(message, opening+text+"'") {
			return index
		}
		index++
	}
	return -1
}

// short cuts a message, not in the middle of a character.
func short(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…"
}
