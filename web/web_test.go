package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"telemetryhub/web"
)

const (
	indexHTML = "<!doctype html><title>page</title>"
	script    = "console.log('telemetry hub, a script that is long enough to be worth packing')"
	scriptAt  = "/assets/index-4f2a.js"
)

func built(t *testing.T) http.Handler {
	t.Helper()
	return handler(t, fstest.MapFS{
		".gitkeep":                 {},
		"index.html":               {Data: []byte(indexHTML)},
		"favicon.svg":              {Data: []byte("<svg/>")},
		"assets/index-4f2a.js":     {Data: []byte(script)},
		"assets/index-4f2a.js.gz":  {Data: packed(t, script)},
		"assets/style-99aa.css":    {Data: []byte("a{}")},
		"assets/.hidden-source.ts": {Data: []byte("secret")},
	})
}

func handler(t *testing.T, files fstest.MapFS) http.Handler {
	t.Helper()
	h, err := web.NewHandler(files)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func packed(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := io.WriteString(zw, text); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// get asks h for target; headers are name, value, name, value.
func get(t *testing.T, h http.Handler, method, target string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantHeader(t *testing.T, r *http.Response, name, want string) {
	t.Helper()
	if got := r.Header.Get(name); got != want {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func TestPagesOfTheRouterGetTheIndex(t *testing.T) {
	h := built(t)
	for _, target := range []string{"/", "/login", "/devices/A-1", "/devices/node.1.js", "/devices/a:b"} {
		r := get(t, h, http.MethodGet, target)
		if r.StatusCode != http.StatusOK || body(t, r) != indexHTML {
			t.Errorf("%s: status %d, want the index", target, r.StatusCode)
		}
		wantHeader(t, r, "Cache-Control", "no-cache")
		wantHeader(t, r, "Content-Type", "text/html; charset=utf-8")
	}
}

func TestWrongPathsBelowAssetsAndAPIAreNotFound(t *testing.T) {
	h := built(t)
	for _, target := range []string{"/assets/index-old.js", "/assets/", "/assets/.hidden-source.ts", "/assets/index-4f2a.js.gz", "/api/v1/nothing"} {
		r := get(t, h, http.MethodGet, target)
		if r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", target, r.StatusCode)
		}
		wantHeader(t, r, "Cache-Control", "no-store")
	}
}

func TestHashedAssetsAreImmutable(t *testing.T) {
	h := built(t)
	r := get(t, h, http.MethodGet, scriptAt)
	wantHeader(t, r, "Cache-Control", "public, max-age=31536000, immutable")
	wantHeader(t, r, "Content-Type", "text/javascript; charset=utf-8")
	wantHeader(t, get(t, h, http.MethodGet, "/favicon.svg"), "Cache-Control", "no-cache")
}

func TestEncodingFollowsAcceptEncoding(t *testing.T) {
	h := built(t)
	for accept, want := range map[string]string{
		"": "", "identity": "", "br": "", "gzip": "gzip", "br, GZIP;q=0.5": "gzip", "*": "gzip",
		"gzip;q=0": "", "gzip; q=0.0, *": "", "*;q=0": "", "gzip;q=many": "",
	} {
		r := get(t, h, http.MethodGet, scriptAt, "Accept-Encoding", accept)
		wantHeader(t, r, "Vary", "Accept-Encoding")
		if got := r.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q, want %q", accept, got, want)
			continue
		}
		text := body(t, r)
		if want == "gzip" {
			zr, err := gzip.NewReader(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			unpacked, err := io.ReadAll(zr)
			if err != nil {
				t.Fatal(err)
			}
			text = string(unpacked)
		}
		if text != script {
			t.Errorf("Accept-Encoding %q: body %q", accept, text)
		}
	}
	if r := get(t, h, http.MethodGet, "/assets/style-99aa.css", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" {
		t.Error("a file without a packed form is sent as it is")
	}
}

func TestRevalidationAndParts(t *testing.T) {
	h := built(t)
	plain := get(t, h, http.MethodGet, scriptAt).Header.Get("ETag")
	zipped := get(t, h, http.MethodGet, scriptAt, "Accept-Encoding", "gzip").Header.Get("ETag")
	if plain == "" || plain == zipped {
		t.Fatalf("ETags %q and %q: each form needs its own", plain, zipped)
	}
	if r := get(t, h, http.MethodGet, scriptAt, "If-None-Match", plain); r.StatusCode != http.StatusNotModified {
		t.Errorf("status %d for a known ETag, want 304", r.StatusCode)
	}
	r := get(t, h, http.MethodGet, scriptAt, "Range", "bytes=0-6")
	if r.StatusCode != http.StatusPartialContent || body(t, r) != script[:7] {
		t.Errorf("status %d for a range of the plain form, want 206", r.StatusCode)
	}
	r = get(t, h, http.MethodGet, scriptAt, "Range", "bytes=0-6", "Accept-Encoding", "gzip")
	if r.StatusCode != http.StatusOK || int64(len(body(t, r))) != r.ContentLength {
		t.Errorf("status %d, Content-Length %d: a packed file is sent whole", r.StatusCode, r.ContentLength)
	}
}

func TestEveryAnswerBearsTheSecurityHeaders(t *testing.T) {
	h := built(t)
	unbuilt := handler(t, fstest.MapFS{".gitkeep": {}})
	for _, r := range []*http.Response{
		get(t, h, http.MethodGet, "/"), get(t, h, http.MethodGet, scriptAt), get(t, h, http.MethodGet, "/assets/none"),
		get(t, h, http.MethodPost, "/"), get(t, unbuilt, http.MethodGet, "/"),
	} {
		policy := r.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("policy %q lacks %q", policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("policy %q allows something unsafe", policy)
		}
		wantHeader(t, r, "X-Content-Type-Options", "nosniff")
		wantHeader(t, r, "Referrer-Policy", "no-referrer")
	}
}

func TestOnlyGetAndHead(t *testing.T) {
	h := built(t)
	r := get(t, h, http.MethodPost, "/")
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("status %d for POST, want 405", r.StatusCode)
	}
	wantHeader(t, r, "Allow", "GET, HEAD")
	if r := get(t, h, http.MethodHead, "/"); r.StatusCode != http.StatusOK || body(t, r) != "" {
		t.Errorf("status %d for HEAD, want 200 and no body", r.StatusCode)
	}
}

func TestWithoutABuildThePageSaysHowToMakeOne(t *testing.T) {
	h := handler(t, fstest.MapFS{".gitkeep": {}})
	r := get(t, h, http.MethodGet, "/devices/A-1")
	if text := body(t, r); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "make web") {
		t.Errorf("status %d, body %q: want 503 that says make web", r.StatusCode, text)
	}
	wantHeader(t, r, "Cache-Control", "no-store")
}

// The embedded page is there or not, depending on the build; either way it must be whole.
func TestEmbeddedPage(t *testing.T) {
	h := web.Handler()
	r := get(t, h, http.MethodGet, "/")
	text := body(t, r)
	if r.StatusCode == http.StatusServiceUnavailable {
		if os.Getenv("CI") == "true" {
			t.Fatal("the dashboard is not built: run make web before the tests")
		}
		t.Skip("the dashboard is not built: run make web")
	}
	found := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(text, -1)
	if len(found) < 2 {
		t.Fatalf("the index names %d files, want a script and a style at least", len(found))
	}
	for _, f := range found {
		if r := get(t, h, http.MethodGet, f[1]); r.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", f[1], r.StatusCode)
		}
	}
	if strings.Contains(text, "<script>") || strings.Contains(text, "style=") {
		t.Error("the index has inline script or style, which its own content policy forbids")
	}
}
