package store

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxErrorBody bounds how much of a refusal is read: it may quote the whole batch.
const maxErrorBody = 256 << 10

// answer is what a server said, before the client library makes an error of it: that drops the number of the bad line
// (2.x and 3), cuts long messages (1.8), and takes any 2xx for success.
type answer struct {
	status int // 0: there was no answer
	header http.Header
	body   []byte // of a refusal only
}

type answerKey struct{}

// keepAnswer makes a context under which the next request's answer is kept.
func keepAnswer(ctx context.Context) (context.Context, *answer) {
	kept := &answer{}
	return context.WithValue(ctx, answerKey{}, kept), kept
}

// answerKeeper does the client's requests.
type answerKeeper struct{ client *http.Client }

// Do implements the client library's Doer.
func (k *answerKeeper) Do(request *http.Request) (*http.Response, error) {
	response, err := k.client.Do(request)
	kept, _ := request.Context().Value(answerKey{}).(*answer)
	if err != nil || kept == nil {
		return response, err
	}
	kept.status, kept.header = response.StatusCode, response.Header
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	// A body that breaks off is still a refusal with its status.
	kept.body, _ = io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(kept.body))
	return response, nil
}

// refusal is the body of an error as the generations of InfluxDB write it.
type refusal struct {
	Error   string `json:"error"`   // 1.8, 3
	Message string `json:"message"` // 2.x, Cloud
	Line    *int   `json:"line"`    // 2.x: from 1
	Data    []struct {
		Message string `json:"error_message"`
		Line    *int   `json:"line_number"` // 3: from 1
	} `json:"data"`
}

// message gives the server's words and the index of the line that they are about, -1 if they do not say.
func (a *answer) message() (text string, line int) {
	var r refusal
	if err := json.Unmarshal(a.body, &r); err != nil {
		// 3 writes `data` as an object for some errors; its message is enough then.
		var plain struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}
		if json.Unmarshal(a.body, &plain) != nil {
			plain.Error = string(a.body)
		}
		r = refusal{Error: plain.Error, Message: plain.Message}
	}
	line = -1
	if r.Line != nil {
		line = *r.Line - 1
	}
	text = strings.TrimSpace(strings.Join(nonEmpty(r.Error, r.Message), ": "))
	for i, d := range r.Data {
		if i == 0 {
			text += ": " + d.Message
		}
		if d.Line != nil && line < 0 {
			line = *d.Line - 1
		}
	}
	if text == "" {
		text = strings.Join(nonEmpty(a.header.Get("X-Influxdb-Error"), http.StatusText(a.status)), "")
	}
	return text, line
}

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds or a date. 0 if there is none.
func (a *answer) retryAfter(now time.Time) time.Duration {
	value := strings.TrimSpace(a.header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func nonEmpty(texts ...string) []string {
	var kept []string
	for _, t := range texts {
		if t != "" {
			kept = append(kept, t)
		}
	}
	return kept
}
