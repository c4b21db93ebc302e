package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/influxdata/influxdb"
	"github.com/influxdata/influxdb/models"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxdb/tsdb"
	"github.com/influxdata/influxql"
)

// RoundTrip implements http.RoundTripper: it answers as InfluxDB 1.8's server does, for the requests that Store makes.
// A write goes on when its context ends, because the engine cannot stop it; it takes at most the engine's 10 s.
func (e *engine) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	switch request.Method + " " + request.URL.Path {
	case "POST /api/v2/write":
		return e.serveWrite(request)
	case "POST /query":
		return e.serveQuery(request)
	case "GET /ping":
		return reply(request, http.StatusNoContent, nil), nil
	}
	return refuse(request, http.StatusNotFound, "the embedded engine does not answer "+request.URL.Path), nil
}

func (e *engine) serveWrite(request *http.Request) (*http.Response, error) {
	// The points are views into this buffer, so that it cannot be used again.
	body := make([]byte, max(0, request.ContentLength))
	if _, err := io.ReadFull(request.Body, body); err != nil {
		return nil, fmt.Errorf("embedded: read the request: %w", err)
	}
	points, parseErr := models.ParsePointsWithPrecision(body, time.Now().UTC(), request.URL.Query().Get("precision"))
	if len(points) > 0 {
		leave := e.series.enter(points)
		err := e.writer.WritePointsPrivilegedWithContext(
			request.Context(), embeddedDB, embeddedPolicy, models.ConsistencyLevelOne, points)
		leave(err == nil)
		if err == nil {
			err = e.syncNew()
		}
		var partial tsdb.PartialWriteError
		switch {
		case errors.As(err, &partial), influxdb.IsClientError(err):
			return refuse(request, http.StatusBadRequest, err.Error()), nil
		case err != nil:
			return refuse(request, http.StatusInternalServerError, err.Error()), nil
		}
	}
	if parseErr != nil {
		return refuse(request, http.StatusBadRequest, "partial write: "+parseErr.Error()), nil
	}
	return reply(request, http.StatusNoContent, nil), nil
}

func (e *engine) serveQuery(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, fmt.Errorf("embedded: read the request: %w", err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return refuse(request, http.StatusBadRequest, err.Error()), nil
	}
	parsed, err := influxql.NewParser(strings.NewReader(form.Get("q"))).ParseQuery()
	if err != nil {
		return refuse(request, http.StatusBadRequest, "error parsing query: "+err.Error()), nil
	}
	// Only reading reaches the engine this way, whatever a statement says.
	for _, statement := range parsed.Statements {
		if !readsOnly(statement) {
			return refuse(request, http.StatusForbidden, "the embedded engine answers SELECT, SHOW MEASUREMENTS and SHOW FIELD KEYS only"), nil
		}
	}
	e.series.queries.RLock()
	results, err := e.execute(request, parsed)
	e.series.queries.RUnlock()
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(map[string]any{"results": results})
	if err != nil { // an infinite sum, which JSON cannot say
		return refuse(request, http.StatusUnprocessableEntity, err.Error()), nil
	}
	return reply(request, http.StatusOK, content), nil
}

func readsOnly(statement influxql.Statement) bool {
	switch s := statement.(type) {
	case *influxql.SelectStatement:
		return s.Target == nil
	case *influxql.ShowMeasurementsStatement, *influxql.ShowFieldKeysStatement:
		return true
	}
	return false
}

// execute runs the statements and gathers their results; the end of the request's context interrupts them.
func (e *engine) execute(request *http.Request, parsed *influxql.Query) ([]*query.Result, error) {
	ctx := request.Context()
	closing := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { close(closing) })
	defer stop()
	var results []*query.Result
	for r := range e.query.ExecuteQuery(parsed, query.ExecutionOptions{
		Database:         embeddedDB,
		Authorizer:       query.OpenAuthorizer,
		CoarseAuthorizer: query.OpenCoarseAuthorizer,
		ReadOnly:         true,
		Quiet:            true,
	}, closing) {
		if r == nil {
			continue
		}
		for _, row := range r.Series {
			for _, values := range row.Values {
				if at, ok := values[0].(time.Time); ok {
					values[0] = at.UnixNano()
				}
			}
		}
		if n := len(results); n > 0 && results[n-1].StatementID == r.StatementID {
			results[n-1].Series = append(results[n-1].Series, r.Series...)
			results[n-1].Err = errors.Join(results[n-1].Err, r.Err)
			continue
		}
		results = append(results, r)
	}
	return results, ctx.Err()
}

// refuse answers as 1.8 does.
func refuse(request *http.Request, status int, message string) *http.Response {
	content, _ := json.Marshal(map[string]string{"error": message}) // strings always encode
	return reply(request, status, content)
}

func reply(request *http.Request, status int, content []byte) *http.Response {
	header := http.Header{"X-Influxdb-Version": {"1.8.10"}}
	if content != nil {
		header.Set("Content-Type", "application/json")
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(content)), ContentLength: int64(len(content)),
		Request: request,
	}
}
