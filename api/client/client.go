package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// DefaultURL is where a hub with no configuration serves.
	DefaultURL = "https://localhost:8443"
	// DefaultTimeout bounds one request, beside the time it asks the hub to wait.
	DefaultTimeout = 30 * time.Second

	maxAnswer  = 64 << 20 // bytes of one answer
	maxProblem = 64 << 10 // bytes of an error's body that are looked at
)

// Config says which hub to speak to, and as whom.
type Config struct {
	URL     string        // "" is DefaultURL; http or https
	Token   string        // operator's token; "" for the open paths only
	CAFile  string        // file of certificates in PEM that may sign the hub's, beside the system's
	CAPEM   []byte        // the same as bytes
	Timeout time.Duration // of one request; 0 is DefaultTimeout
	Agent   string        // User-Agent; "" is "telemetryhub-client"
}

// Client speaks to one hub. It is safe for concurrent use and reuses its connections.
type Client struct {
	base      *url.URL
	token     string
	agent     string
	timeout   time.Duration
	transport *http.Transport
	http      *http.Client
}

// New checks cfg and returns a client; it does not connect.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.URL)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(cfg.Token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token has blanks or line breaks inside: it must be one word, as it was shown when it was made")
	}
	roots, err := authorities(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Agent == "" {
		cfg.Agent = "telemetryhub-client"
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
	}
	return &Client{
		base:      base,
		token:     token,
		agent:     cfg.Agent,
		timeout:   cfg.Timeout,
		transport: transport,
		http:      &http.Client{Transport: transport},
	}, nil
}

// Close gives up the idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// URL is the hub's address as it is used.
func (c *Client) URL() string { return c.base.String() }

func parseBase(text string) (*url.URL, error) {
	if text == "" {
		text = DefaultURL
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	base, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the hub's address %q: %w", text, err)
	}
	if base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("the hub's address %q must begin with https:// (or http:// behind a proxy on this machine)", text)
	}
	if base.Host == "" {
		return nil, fmt.Errorf("the hub's address %q names no host; it looks like %s", text, DefaultURL)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawQuery, base.Fragment = "", ""
	return base, nil
}

func authorities(cfg Config) (*x509.CertPool, error) {
	pems := [][]byte{cfg.CAPEM}
	if cfg.CAFile != "" {
		data, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		pems = append(pems, data)
	}
	var roots *x509.CertPool
	for _, pem := range pems {
		if len(pem) == 0 {
			continue
		}
		if roots == nil {
			var err error
			if roots, err = x509.SystemCertPool(); err != nil {
				roots = x509.NewCertPool()
			}
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in PEM found in %s", firstNonEmpty(cfg.CAFile, "the authority's bytes"))
		}
	}
	return roots, nil // nil means the system's
}

func firstNonEmpty(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// call is one request: what is sent, and how long the hub was asked to wait beyond the timeout.
type call struct {
	method string
	path   string // escaped, below the base
	query  url.Values
	body   any // encoded as JSON; []byte is sent as it is, with the header's Content-Type; nil sends none
	header http.Header
	wait   time.Duration
	accept int // a status besides 2xx whose body is decoded all the same
}

// do makes the request and decodes a JSON answer into out (nil: the body is not needed).
func (c *Client) do(ctx context.Context, k call, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+k.wait)
	defer cancel()
	body, err := c.fetch(ctx, k)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not what this client understands: %w", k.method, k.path, err)
	}
	return nil
}

// fetch makes the request and returns the whole body of a good answer.
func (c *Client) fetch(ctx context.Context, k call) ([]byte, error) {
	resp, err := c.open(ctx, k)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.explain(fmt.Errorf("%s %s: read the answer: %w", k.method, k.path, err))
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("%s %s: the answer is larger than %d bytes", k.method, k.path, maxAnswer)
	}
	return body, nil
}

// open makes the request and returns an answer with a good status; its body is the caller's to close.
func (c *Client) open(ctx context.Context, k call) (*http.Response, error) {
	req, err := c.request(ctx, k)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == k.accept {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // a cut body still tells its status
	return nil, readProblem(resp, body)
}

func (c *Client) request(ctx context.Context, k call) (*http.Request, error) {
	address := c.base.String() + k.path
	if len(k.query) > 0 {
		address += "?" + k.query.Encode()
	}
	var body io.Reader
	if raw, is := k.body.([]byte); is {
		body = bytes.NewReader(raw)
	} else if k.body != nil {
		data, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: encode the request: %w", k.method, k.path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, address, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", k.method, k.path, err)
	}
	maps.Copy(req.Header, k.header)
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json, application/problem+json")
	}
	req.Header.Set("User-Agent", c.agent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}
