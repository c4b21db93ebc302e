package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// dist holds nothing but .gitkeep until the dashboard has been built, so that the Go code builds without Node.
//
//go:embed all:dist
var dist embed.FS

const (
	indexFile = "index.html"
	assetsDir = "assets/" // Vite puts a hash in the name of each file here

	cacheForever = "public, max-age=31536000, immutable"
	cacheNever   = "no-cache" // may be kept, must be asked for again: the ETag makes that cheap

	// The page loads everything from the hub itself. img-src data: is for the browser's own form controls.
	contentPolicy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

// asset is one file of the dashboard, held in memory in both forms.
type asset struct {
	plain, gzipped []byte // gzipped is nil where it would not pay
	contentType    string
	etag           string // quoted; of the plain form
	cache          string
}

// site is fixed after construction and so safe for concurrent use.
type site struct {
	assets map[string]asset // by path without the leading slash
}

// Handler serves the embedded dashboard.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil { // only for a malformed path, and this one is constant
		return failed(err)
	}
	h, err := NewHandler(files)
	if err != nil {
		return failed(err)
	}
	return h
}

// NewHandler serves the dashboard built into files. The files are read once, here.
func NewHandler(files fs.FS) (http.Handler, error) {
	s := &site{assets: make(map[string]asset)}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir(), strings.HasPrefix(path.Base(name), "."), strings.HasSuffix(name, ".gz"):
			return nil
		}
		a, err := readAsset(files, name)
		if err != nil {
			return err
		}
		s.assets[name] = a
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the dashboard's files: %w", err)
	}
	return s, nil
}

func readAsset(files fs.FS, name string) (asset, error) {
	plain, err := fs.ReadFile(files, name)
	if err != nil {
		return asset{}, err
	}
	gzipped, err := fs.ReadFile(files, name+".gz")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return asset{}, err
	}
	sum := sha256.Sum256(plain)
	a := asset{
		plain:       plain,
		gzipped:     gzipped,
		contentType: contentType(name),
		etag:        `"` + hex.EncodeToString(sum[:8]) + `"`,
		cache:       cacheNever,
	}
	if strings.HasPrefix(name, assetsDir) {
		a.cache = cacheForever
	}
	return a, nil
}

// contentType does not leave the common kinds to the machine's own table, which may lack or misname them.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

// ServeHTTP answers with the file of that path; any other path is a page of the dashboard's own router and gets
// index.html, except below /assets/ and /api/, where a wrong path is an honest 404.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "The dashboard is read with GET or HEAD.", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if a, ok := s.assets[name]; ok {
		serveAsset(w, r, a)
		return
	}
	if strings.HasPrefix(name, assetsDir) || strings.HasPrefix(name, "api/") {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "There is nothing at this path.", http.StatusNotFound)
		return
	}
	index, ok := s.assets[indexFile]
	if !ok {
		serveNotBuilt(w, r)
		return
	}
	serveAsset(w, r, index)
}

func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY") // for what is too old for frame-ancestors
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

func serveAsset(w http.ResponseWriter, r *http.Request, a asset) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", a.cache)
	body, etag := a.plain, a.etag
	if a.gzipped != nil {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			body = a.gzipped
			etag = strings.TrimSuffix(a.etag, `"`) + `-gz"` // another form is another entity (RFC 9110, 8.8.3)
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Length", strconv.Itoa(len(body))) // ServeContent leaves it out beside Content-Encoding
			r = withoutRange(r)
		}
	}
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// withoutRange keeps Content-Length true: a part of a gzip stream serves nobody here.
func withoutRange(r *http.Request) *http.Request {
	if r.Header.Get("Range") == "" {
		return r
	}
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	return whole
}

// acceptsGzip reads Accept-Encoding as RFC 9110, 12.5.3 has it: gzip or *, unless its weight is nought.
func acceptsGzip(header string) bool {
	star := false
	for item := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(item, ";")
		wanted := weight(params) > 0
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			return wanted
		case "*":
			star = wanted
		}
	}
	return star
}

func weight(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(strings.TrimSpace(key), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0
		}
		return q
	}
	return 1
}

// notBuilt has no style or script: the content policy holds for it too.
const notBuilt = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Telemetry Hub</title>
<h1>The hub runs; its dashboard is not built in.</h1>
<p>Run <code>make web</code> (needs Node 20 or later), then build and start the hub again.</p>
<p>Devices, the REST API under <code>/api/v1</code> and <code>hubctl</code> work without it.</p>
</html>
`

func serveNotBuilt(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = io.WriteString(w, notBuilt) // a client that has gone needs no answer
}

func failed(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		setSecurityHeaders(w.Header())
		http.Error(w, "The dashboard cannot be served: "+err.Error(), http.StatusInternalServerError)
	})
}
