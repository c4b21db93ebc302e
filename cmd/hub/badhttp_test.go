package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes to the one port and returns the answers, until the hub closes or says nothing more. %H stands for the
// hub's address.
func (h *hubProcess) raw(request string) (answers []*http.Response, rest error) {
	h.t.Helper()
	address := strings.TrimPrefix(h.url, "https://")
	conn, err := tls.Dial("tcp", address, h.tls())
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = io.WriteString(conn, strings.ReplaceAll(request, "%H", address)) }()
	in := bufio.NewReader(conn)
	for {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return answers, err
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return answers, err
		}
		answer.Body = io.NopCloser(bytes.NewReader(body))
		if answers = append(answers, answer); answer.Close {
			return answers, nil
		}
		// The next answer is on its way, or there is none.
		if in.Buffered() == 0 {
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		}
	}
}

// Requests that two parsers could read in two ways are refused, or read in the one way that RFC 9112 has for them. What is
// hidden in one (a request for /smuggled by the administrator) is never served as another's, and whoever sends such things
// harms nobody else.
func TestRequestsOfTwoMeanings(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	device := h.newDevice("d")
	ws := h.dial("d", device)
	const head = "POST /api/v1/devices/d/telemetry HTTP/1.1\r\nHost: %H\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\n"
	const reading = `{"values":{"n":1}}`
	const chunked = "12\r\n" + reading + "\r\n0\r\n\r\n"
	many := strings.Repeat("X-Padding: "+strings.Repeat("p", 1000)+"\r\n", 40)
	for _, c := range []struct {
		name, request string
		statuses      []int
	}{
		{"as it should be", head + "Content-Length: 18\r\nConnection: close\r\n\r\n" + reading, []int{204}},
		{"chunked, as it should be", head + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunked, []int{204}},

		{"6.3 two lengths", head + "Content-Length: 18\r\nContent-Length: 19\r\n\r\n" + reading + "x", []int{400}},
		{"6.3 two lengths in a line", head + "Content-Length: 18, 19\r\n\r\n" + reading + "x", []int{400}},
		{"6.2 a length with a sign", head + "Content-Length: +18\r\n\r\n" + reading, []int{400}},
		{"6.2 a negative length", head + "Content-Length: -18\r\n\r\n" + reading, []int{400}},
		{"6.2 a length that is none", head + "Content-Length: 0x12\r\n\r\n" + reading, []int{400}},
		{"6.2 a length of too many digits", head + "Content-Length: 99999999999999999999\r\n\r\n" + reading, []int{400}},
		{"6.1 an unknown coding", head + "Transfer-Encoding: gzip\r\n\r\n" + reading, []int{501}},
		{"6.1 chunked and another", head + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunked, []int{501}},
		{"6.1 chunked twice", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, []int{501, 400}},
		{"6.1 an obscured name", head + "Transfer-Encoding : chunked\r\nContent-Length: 18\r\n\r\n" + reading, []int{400}},
		{"6.1 an obscured value", head + "Transfer-Encoding: \x0bchunked\r\nContent-Length: 18\r\n\r\n" + reading, []int{400, 501}},
		{"7.1 a chunk's size with a sign", head + "Transfer-Encoding: chunked\r\n\r\n+12\r\n" + reading + "\r\n0\r\n\r\n", []int{400}},
		{"7.1 a bare line feed behind a chunk's size", head + "Transfer-Encoding: chunked\r\n\r\n12\n" + reading + "\r\n0\r\n\r\n", []int{400}},
		{"7.1 a chunk's size that is none", head + "Transfer-Encoding: chunked\r\n\r\n0x12\r\n" + reading + "\r\n0\r\n\r\n", []int{400}},
		{"7.1 a chunk that is longer than it says", head + "Transfer-Encoding: chunked\r\n\r\n10\r\n" + reading + "\r\n0\r\n\r\n", []int{400}},
		{"7.1.1 extensions without end", head + "Transfer-Encoding: chunked\r\n\r\n12;" + strings.Repeat("x", 1<<16) + "\r\n" + reading + "\r\n0\r\n\r\n", []int{400}},

		{"3 no version", "GET /healthz\r\n\r\n", []int{400}},
		{"3 another version", "GET /healthz HTTP/3.0\r\nHost: %H\r\n\r\n", []int{505}},
		{"3 a space too much", "GET  /healthz HTTP/1.1\r\nHost: %H\r\n\r\n", []int{400}},
		{"3.2 no host", "GET /healthz HTTP/1.1\r\n\r\n", []int{400}},
		{"3.2 two hosts", "GET /healthz HTTP/1.1\r\nHost: %H\r\nHost: other.example\r\n\r\n", []int{400}},
		{"3.2 a host with a path", "GET /healthz HTTP/1.1\r\nHost: a/b c\r\n\r\n", []int{400}},
		{"5.1 a space before the colon", "GET /healthz HTTP/1.1\r\nHost : %H\r\n\r\n", []int{400}},
		{"5.1 a line without a colon", "GET /healthz HTTP/1.1\r\nHost: %H\r\nnothing\r\n\r\n", []int{400}},
		{"5.2 a folded first line", "GET /healthz HTTP/1.1\r\n Host: %H\r\n\r\n", []int{400}},
		{"5 a zero byte", "GET /healthz HTTP/1.1\r\nHost: %H\r\nX: a\x00b\r\n\r\n", []int{400}},
		{"5.4 header fields over 16 KiB", "GET /healthz HTTP/1.1\r\nHost: %H\r\n" + many + "\r\n", []int{431}},
		{"3.2.2 a target longer than that", "GET /healthz?" + strings.Repeat("x", 40_000) + " HTTP/1.1\r\nHost: %H\r\n\r\n", []int{431}},
		{"binary", "\x16\x03\x01\x00\xff\xff\xff\xff\r\n\r\n", []int{400}},
		{"an HTTP/2 preface without its protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 505}},
	} {
		answers, err := h.raw(strings.ReplaceAll(c.request, "TOKEN", device))
		if len(answers) != 1 {
			t.Errorf("%s: %d answers, %v, want one", c.name, len(answers), err)
			continue
		}
		known := false
		for _, status := range c.statuses {
			known = known || answers[0].StatusCode == status
		}
		if !known || answers[0].StatusCode >= 400 && !answers[0].Close {
			t.Errorf("%s: status %d, closed %v; want one of %v and the end of the connection", c.name, answers[0].StatusCode, answers[0].Close, c.statuses)
		}
		send(t, ws, `{"id":1,"method":"telemetry","params":{"ts":1700000000000,"values":{"neighbour":1}}}`)
		if f := receive(t, ws); f.Error != nil {
			t.Errorf("%s: its neighbour was told %+v", c.name, f)
		}
	}
}

// Of a request with both a length and chunks the chunks count, and its connection ends with the answer (RFC 9112 section
// 6.1): what a proxy that counts the length took for its body is no request. The target's authority, and the name of the host,
// change nothing: the hub serves one site, and nothing without credentials.
func TestWhatIsHiddenInARequestIsNotServed(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	admin := h.token()
	hidden := "DELETE /api/v1/devices/d HTTP/1.1\r\nHost: %H\r\nAuthorization: Bearer " + admin + "\r\n\r\n"
	device := h.newDevice("d")
	head := "POST /api/v1/devices/d/telemetry HTTP/1.1\r\nHost: %H\r\nAuthorization: Bearer " + device + "\r\nContent-Type: application/json\r\n"
	for name, request := range map[string]string{
		"a length and chunks":  head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", 5+len(hidden)) + "0\r\n\r\n" + hidden,
		"chunks and a length":  head + fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n", 5+len(hidden)) + "0\r\n\r\n" + hidden,
		"a body of a GET":      "GET /healthz HTTP/1.1\r\nHost: %H\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden,
		"an upgrade refused":   "GET /connect HTTP/1.1\r\nHost: %H\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden,
		"an upgrade, and more": "GET /connect?token=" + device + " HTTP/1.1\r\nHost: %H\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + hidden,
	} {
		answers, err := h.raw(request)
		if status := h.call(http.MethodGet, "/api/v1/devices/d", nil, nil); status != http.StatusOK {
			t.Errorf("%s: the hidden request was served: %d answers, %v", name, len(answers), err)
			h.newDevice("d")
		}
	}
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"absolute form":                   {"GET https://%H/healthz HTTP/1.1\r\nHost: %H\r\nConnection: close\r\n\r\n", 200},
		"absolute form of another":        {"GET http://other.example/healthz HTTP/1.1\r\nHost: %H\r\nConnection: close\r\n\r\n", 200},
		"another host":                    {"GET /healthz HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n", 200},
		"another host, without a token":   {"GET /api/v1/devices HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n", 401},
		"a proxy's CONNECT":               {"CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nConnection: close\r\n\r\n", 404},
		"a way up":                        {"GET /api/../../etc/passwd HTTP/1.1\r\nHost: %H\r\nConnection: close\r\n\r\n", 307},
		"a device's path that is a way":   {"GET /connect/..%2fx HTTP/1.1\r\nHost: %H\r\nConnection: close\r\n\r\n", 401},
		"a method that is none":           {"BREW /healthz HTTP/1.1\r\nHost: %H\r\nConnection: close\r\n\r\n", 405},
		"a body where none is, too large": {"POST /api/v1/login HTTP/1.1\r\nHost: %H\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n" + strings.Repeat("x", 1_000_000), 413},
	} {
		answers, err := h.raw(c.request)
		if len(answers) != 1 || answers[0].StatusCode != c.status {
			got := 0
			if len(answers) > 0 {
				got = answers[0].StatusCode
			}
			t.Errorf("%s: %d answers, status %d, %v; want %d", name, len(answers), got, err, c.status)
		}
	}
}

// A page of another site has the browser's cookie at best: no WebSocket takes it, and no change by it is made without
// the hub's own origin.
func TestAForeignPageCanDoNothingByCookie(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	h.newDevice("d")
	login, _ := h.raw(fmt.Sprintf("POST /api/v1/login HTTP/1.1\r\nHost: %%H\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len(`{"token":""}`)+len(h.token())) + `{"token":"` + h.token() + `"}`)
	if len(login) != 1 || len(login[0].Cookies()) != 1 {
		t.Fatalf("login: %v", login)
	}
	cookie := login[0].Cookies()[0]
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode {
		t.Errorf("the cookie is %+v, want HttpOnly, Secure, SameSite=Strict", cookie)
	}
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	own := "Origin: https://%H\r\n"
	for name, c := range map[string]struct {
		line, header string
		status       int
	}{
		"a WebSocket":                      {"GET /connect", upgrade + "Origin: https://evil.example\r\n", 401},
		"a WebSocket of the hub's own":     {"GET /connect", upgrade + own, 401},
		"a WebSocket to a device":          {"GET /connect/d", upgrade + "Origin: https://evil.example\r\n", 401},
		"a change":                         {"DELETE /api/v1/devices/d", "Origin: https://evil.example\r\n", 403},
		"a change, said to be cross-site":  {"DELETE /api/v1/devices/d", "Sec-Fetch-Site: cross-site\r\n", 403},
		"a change, said to be same-site":   {"DELETE /api/v1/devices/d", "Sec-Fetch-Site: same-site\r\n", 403},
		"a change from nowhere":            {"DELETE /api/v1/devices/d", "", 403},
		"a change of origin null":          {"DELETE /api/v1/devices/d", "Origin: null\r\n", 403},
		"a change, another host's origin":  {"DELETE /api/v1/devices/d", "Origin: https://%H.evil.example\r\n", 403},
		"a command":                        {"POST /api/v1/devices/d/commands", "Origin: https://evil.example\r\nContent-Type: application/json\r\n", 403},
		"reading, from the dashboard":      {"GET /api/v1/devices/d", "Sec-Fetch-Site: same-origin\r\n", 200},
		"reading, which no page sees":      {"GET /api/v1/devices/d", "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n", 200},
		"the dashboard's change, the last": {"PATCH /api/v1/devices/d", own + "Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n", 200},
	} {
		answers, err := h.raw(c.line + " HTTP/1.1\r\nHost: %H\r\nCookie: " + cookie.Name + "=" + cookie.Value + "\r\n" + c.header + "Content-Length: 2\r\n\r\n{}")
		if len(answers) == 0 || answers[0].StatusCode != c.status {
			got := 0
			if len(answers) > 0 {
				got = answers[0].StatusCode
			}
			t.Errorf("%s: status %d, %v; want %d", name, got, err, c.status)
		}
		for _, a := range answers {
			if a.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: the answer lets other sites read it", name)
			}
		}
	}
}
