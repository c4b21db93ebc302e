package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// DefaultTimeout bounds a request to a server from its first to its last byte.
	DefaultTimeout = 30 * time.Second
	dialTimeout    = 5 * time.Second
	// idleTimeout is below the 60 s after which common proxies cut, so that no write meets a connection that is gone.
	idleTimeout = 50 * time.Second
)

// InfluxConfig says where an InfluxDB server is and how to be let in.
type InfluxConfig struct {
	URL    string `yaml:"url"`
	Org    string `yaml:"org"`    // 2.x and Cloud; empty for 1.8 and 3
	Bucket string `yaml:"bucket"` // 1.8: "database" or "database/retention policy"
	Token  string `yaml:"token"`  // 1.8: "user:password", or empty without authentication
	// Timeout is DefaultTimeout if 0.
	Timeout time.Duration `yaml:"timeout"`
	// Gzip saves 80 to 90 % of the bytes and costs processor time: for servers far away.
	Gzip bool `yaml:"gzip"`
}

// validate reports all faults at once.
func (c InfluxConfig) validate() error {
	var faults []error
	at, err := url.Parse(c.URL)
	switch {
	case err != nil:
		faults = append(faults, errors.New("url: cannot be parsed")) // its text could hold a password
	case at.Scheme != "http" && at.Scheme != "https" || at.Host == "":
		faults = append(faults, errors.New("url: must be http://HOST:PORT or https://HOST:PORT"))
	case at.User != nil:
		faults = append(faults, errors.New("url: holds a user; put it into token as user:password"))
	case at.RawQuery != "" || at.Fragment != "":
		faults = append(faults, errors.New("url: must not have a query or fragment"))
	}
	if db, _, _ := strings.Cut(c.Bucket, "/"); db == "" {
		faults = append(faults, errors.New("bucket: is missing"))
	}
	if c.Timeout < 0 {
		faults = append(faults, errors.New("timeout: is negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("store: influxdb: %w", err)
	}
	return nil
}

// OpenInfluxDB makes a Store on a server. It does not speak to it, so that the hub starts while the database is away;
// Check does. An error is about the configuration.
func OpenInfluxDB(_ context.Context, c InfluxConfig, log *slog.Logger) (*Store, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
	}
	s := newStore("influxdb", placeOf(c.Org, c.Bucket), connection{
		url:   c.URL,
		token: c.Token,
		gzip:  c.Gzip,
		client: &http.Client{
			Transport: transport,
			Timeout:   c.Timeout,
			// A redirected POST becomes a GET (RFC 9110 section 15.4), whose 200 would look like success.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, log)
	s.check = s.checkServer
	s.closeOnce = func() error {
		transport.CloseIdleConnections()
		return nil
	}
	return s, nil
}
