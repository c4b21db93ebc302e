package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// proxy stands between the hub and InfluxDB. What is no write goes through untouched.
type proxy struct {
	listener net.Listener
	server   *http.Server
	target   string
	through  *httputil.ReverseProxy
	client   *http.Client

	mu        sync.Mutex
	misbehave func(w *write) // nil: a good database
	counts    map[string]int
	trouble   string // what the database said last that was not success
}

// write is one write of the hub's, which the proxy may do something with.
type write struct {
	proxy  *proxy
	w      http.ResponseWriter
	r      *http.Request
	body   []byte // nil before read
	number int    // of the writes since misbehave was set, from 1
}

func newProxy(target string) (*proxy, error) {
	address, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("the database's address: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the proxy: %w", err)
	}
	own := &http.Transport{DisableKeepAlives: true} // each write meets the database as it is now
	p := &proxy{
		listener: listener, target: target, client: &http.Client{Transport: own, Timeout: time.Minute}, counts: map[string]int{},
		through: &httputil.ReverseProxy{
			Transport:    own,
			Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(address) },
			ErrorLog:     log.New(io.Discard, "", 0),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }() // ends with close
	return p, nil
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

func (p *proxy) close() { _ = p.server.Close() } // there is nothing to be saved

// play sets what writes meet from now on; nil ends it.
func (p *proxy) play(misbehave func(w *write)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.misbehave = misbehave
}

func (p *proxy) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[what]++
	return p.counts[what]
}

func (p *proxy) counted(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[what]
}

// note keeps what the database said, for the last words of a fault that was not stood.
func (p *proxy) note(trouble string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = time.Now().Format(time.TimeOnly) + " " + trouble
}

// lastTrouble is what was noted last.
func (p *proxy) lastTrouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	misbehave := p.misbehave
	p.mu.Unlock()
	if misbehave == nil || r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/write") {
		p.through.ServeHTTP(w, r)
		return
	}
	misbehave(&write{proxy: p, w: w, r: r, number: p.count("writes")})
}

// read takes the write's lines off the wire; it has none when the hub went away meanwhile.
func (w *write) read() []byte {
	if w.body == nil {
		if body, err := io.ReadAll(w.r.Body); err == nil {
			w.body = body
		}
	}
	return w.body
}

// answered is what the database said.
type answered struct {
	status int
	body   []byte
}

// forward writes lines to the database, even when the hub has gone meanwhile.
func (w *write) forward(lines []byte) (answered, error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(w.r.Context()), http.MethodPost, w.proxy.target+w.r.URL.RequestURI(), bytes.NewReader(lines))
	if err != nil {
		return answered{}, fmt.Errorf("make the write: %w", err)
	}
	r.Header = w.r.Header.Clone()
	resp, err := w.proxy.client.Do(r)
	if err != nil {
		w.proxy.note(err.Error())
		return answered{}, fmt.Errorf("write to the database: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= http.StatusMultipleChoices {
		w.proxy.note(fmt.Sprintf("%s %s", resp.Status, body))
	}
	return answered{resp.StatusCode, body}, err
}

// pass forwards all lines and answers as the database does.
func (w *write) pass() {
	a, err := w.forward(w.read())
	if err != nil {
		w.w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.answer(a.status, string(a.body))
}

func (w *write) answer(status int, body string) {
	w.w.Header().Set("Content-Type", "application/json")
	w.w.WriteHeader(status)
	_, _ = io.WriteString(w.w, body) // the hub may have gone
}

// refuse answers with an error as the v2 API words it.
func (w *write) refuse(status int, message string) {
	w.answer(status, fmt.Sprintf(`{"code":"torture","message":%q}`, message))
}

// hangUp closes the connection, after the raw text if there is one.
func (w *write) hangUp(raw string) {
	conn, buffered, err := http.NewResponseController(w.w).Hijack()
	if err != nil {
		w.refuse(http.StatusBadGateway, err.Error())
		return
	}
	if raw != "" {
		_, err = buffered.WriteString(raw)
		err = errors.Join(err, buffered.Flush())
	}
	_ = errors.Join(err, conn.Close())
}
