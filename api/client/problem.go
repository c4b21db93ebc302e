package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Problem is the hub's refusal of a request: an RFC 9457 document with the
// hub's own members. It is the error of every answer with a status of 400 and above.
type Problem struct {
	Type         string `json:"type,omitempty"`
	Title        string `json:"title,omitempty"`
	Status       int    `json:"status,omitempty"`
	Detail       string `json:"detail,omitempty"`
	Reason       string `json:"reason,omitempty"` // a word for programs, e.g. device_offline
	Limit        any    `json:"limit,omitempty"`  // the limit that was passed
	Value        any    `json:"value,omitempty"`  // what was measured
	RetryAfterMs int64  `json:"retry_after_ms,omitempty"`
	// Errors are the single faults of a request whose fields were refused.
	Errors []Fault `json:"errors,omitempty"`
}

// Fault is one refused field of a request.
type Fault struct {
	Message  string `json:"message,omitempty"`
	Location string `json:"location,omitempty"` // e.g. body.id
	Pointer  string `json:"pointer,omitempty"`  // of a command's params: where in them (RFC 6901)
	Value    any    `json:"value,omitempty"`
}

// Error says what was refused and, where the hub told it, which limit, the measured value and when to try again.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(firstNonEmpty(p.Detail, p.Title, http.StatusText(p.Status), "the hub refused the request"))
	for _, f := range p.Errors {
		if f.Message == p.Detail {
			continue // it is the only one, and was said
		}
		b.WriteString("; ")
		if at := firstNonEmpty(f.Pointer, f.Location); at != "" {
			b.WriteString(at + ": ")
		}
		b.WriteString(f.Message)
	}
	var facts []string
	if p.Reason != "" {
		facts = append(facts, "reason "+p.Reason)
	}
	if p.Limit != nil {
		facts = append(facts, fmt.Sprintf("limit %v", p.Limit))
	}
	if p.Value != nil {
		facts = append(facts, fmt.Sprintf("value %v", p.Value))
	}
	if p.RetryAfterMs > 0 {
		facts = append(facts, fmt.Sprintf("try again in %v", time.Duration(p.RetryAfterMs)*time.Millisecond))
	}
	if p.Status != 0 {
		facts = append(facts, fmt.Sprintf("status %d", p.Status))
	}
	if len(facts) > 0 {
		b.WriteString(" (" + strings.Join(facts, ", ") + ")")
	}
	return printable(b.String())
}

// IsStatus reports whether err is a Problem of that HTTP status.
func IsStatus(err error, status int) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status
}

// IsReason reports whether err is a Problem with that reason.
func IsReason(err error, reason string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Reason == reason
}

func readProblem(resp *http.Response, body []byte) *Problem {
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "application/problem+json" || kind == "application/json" {
		if json.Unmarshal(body, p) != nil {
			p = &Problem{}
		}
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	if p.Detail == "" && strings.HasPrefix(kind, "text/plain") {
		p.Detail = strings.TrimSpace(string(body[:min(len(body), 300)]))
	}
	if p.RetryAfterMs == 0 {
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			p.RetryAfterMs = int64(s) * 1000
		}
	}
	return p
}

// UnreachableError says that no answer came from the hub, and what to do about it.
type UnreachableError struct {
	URL  string // the hub's address
	What string // what was seen
	Hint string // what to do; may be empty
	Err  error
}

func (e *UnreachableError) Error() string {
	text := "no answer from the hub at " + e.URL + ": " + e.What
	if e.Hint != "" {
		text += "\n" + e.Hint
	}
	return text
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// explain turns a transport's error into one that says what to do.
func (c *Client) explain(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	u := &UnreachableError{URL: c.URL(), What: rootText(err), Err: err}
	var (
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		dns      *net.DNSError
		netError net.Error
	)
	switch {
	case errors.As(err, &unknown):
		u.What = "its certificate is signed by an authority that this machine does not know"
		u.Hint = "pass --ca DIR/tls/ca.pem (HUB_CA), where DIR is the hub's data folder; the hub also serves it at " + c.URL() + "/ca.pem"
	case errors.As(err, &host):
		u.What = "its certificate is for other names: " + host.Error()
		u.Hint = "use one of these names in --url, or add this one to the hub's configuration (tls.names)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		u.What = "its certificate is not valid now: " + invalid.Error()
		u.Hint = "compare the clocks of this machine and the hub's"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		u.What = "it does not speak TLS on this port"
		u.Hint = "is it the hub's port? It serves https on 8443 unless told otherwise"
	case errors.Is(err, syscall.ECONNREFUSED):
		u.What = "connection refused: nothing listens there"
		u.Hint = "is the hub running? Start it (bin/hub), or name its address with --url (HUB_URL)"
	case errors.As(err, &dns):
		u.What = "the host's name is not known: " + dns.Name
		u.Hint = "check --url (HUB_URL)"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netError) && netError.Timeout():
		u.What = "it did not answer in time"
	}
	return u
}

// rootText leaves out the request line that net/http puts before its errors.
func rootText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		if op, ok := errors.AsType[*net.OpError](err); ok {
			return op.Error()
		}
		err = inner
	}
}

// printable keeps a hostile text from moving a terminal's cursor: control characters become blanks.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// Temporary reports whether a hub that is starting or stopping could look like this: nothing listens, or
// the connection broke. A certificate that cannot be trusted does not mend itself.
func (e *UnreachableError) Temporary() bool {
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		dns         *net.DNSError
	)
	return !errors.As(e.Err, &certificate) && !errors.As(e.Err, &record) && (!errors.As(e.Err, &dns) || dns.Temporary())
}
