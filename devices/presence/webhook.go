package presence

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// WebhookConfig is where and how changes are posted.
type WebhookConfig struct {
	URL     string
	Key     []byte            // of the signature; none: the posts are not signed
	Headers map[string]string // sent with each post
	Timeout time.Duration     // of one post
	Roots   *x509.CertPool    // who may sign the receiver's certificate; nil: whom the system trusts
}

// Webhook posts changes to a URL. It follows no redirect: what is told, and the headers with it, go where the
// configuration says and nowhere else.
type Webhook struct {
	cfg    WebhookConfig
	client *http.Client
	host   string
}

// post is the body of one post.
type post struct {
	Type      string    `json:"type"` // presence
	Timestamp time.Time `json:"timestamp"`
	Changes   []Change  `json:"changes"`
	Dropped   uint64    `json:"dropped,omitempty"` // changes that were lost before these
}

// Of an answer no more is read than this, so that the connection can be used again.
const mostAnswer = 64 << 10

// NewWebhook returns the webhook of a configuration that was checked by [CheckURL].
func NewWebhook(cfg WebhookConfig) *Webhook {
	host := cfg.URL
	if u, err := url.Parse(cfg.URL); err == nil {
		host = u.Host
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		DialContext:         (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
		MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, DisableCompression: true,
	}
	return &Webhook{cfg: cfg, host: host, client: &http.Client{
		Transport: transport, Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets go of idle connections.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Tell implements Teller. Changes that are too many for the receiver (413) are posted in two halves.
func (w *Webhook) Tell(ctx context.Context, changes []Change, dropped uint64) error {
	// The same for all tries, so that a receiver can tell what it has. Versions grow, so it is in no earlier post.
	id := "presence-" + changes[0].Device + "-" + strconv.FormatUint(changes[0].Version, 10) + "-" + strconv.Itoa(len(changes))
	status, after, err := w.post(ctx, id, post{Type: "presence", Timestamp: time.Now().UTC(), Changes: changes, Dropped: dropped})
	switch {
	case err != nil:
		return err
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusRequestEntityTooLarge && len(changes) > 1:
		half := len(changes) / 2
		if err := w.Tell(ctx, changes[:half], dropped); err != nil {
			return err
		}
		return w.Tell(ctx, changes[half:], 0)
	}
	err = fmt.Errorf("%s answers %d %s", w.host, status, http.StatusText(status))
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &RefusedError{err}
	}
	return &LaterError{After: after, Err: err}
}

func (w *Webhook) post(ctx context.Context, id string, p post) (status int, after time.Duration, err error) {
	body, err := json.Marshal(p)
	if err != nil {
		return 0, 0, &RefusedError{err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return 0, 0, errors.New("the webhook's URL cannot be used") // the error would show it
	}
	for name, value := range w.cfg.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "telemetry-hub")
	r.Header.Set("Webhook-Id", id)
	now := time.Now()
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if len(w.cfg.Key) > 0 {
		r.Header.Set("Webhook-Signature", sign(w.cfg.Key, id, now, body))
	}
	answer, err := w.client.Do(r)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL, which may hold a secret
		}
		return 0, 0, fmt.Errorf("post to %s: %w", w.host, err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.CopyN(io.Discard, answer.Body, mostAnswer) // the status has said it
	return answer.StatusCode, retryAfter(answer.Header.Get("Retry-After"), now), nil
}

// retryAfter reads the header (RFC 9110 section 10.2.3): seconds or a date; 0 where there is none that can be read.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// CheckURL reports a URL that a webhook cannot have. Without TLS, which anywhere allows, it may only be on this machine.
func CheckURL(text string, anywhere bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("it is not a URL such as https://example.net/presence")
	case u.User != nil:
		return errors.New("it holds a user's name or password; send them in headers: {Authorization: …}")
	case u.Fragment != "":
		return errors.New("it has a fragment (#…), which is never sent")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the scheme %q is neither https nor http", u.Scheme)
	case u.Scheme == "https" || anywhere:
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("without TLS it may only be on this machine; if another is meant, set plain_anywhere: true")
}
