package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"telemetryhub/api/client"
)

func TestLiveReadsEvents(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/live", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "device=a&device=b&kind=telemetry%2Ccommand" {
			t.Errorf("query = %s", got)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": hello\n\n"+
			"event: telemetry\ndata: {\"device\":\"a\",\"readings\":[{\"ts\":5,\"values\":{\"T\":1.5}}]}\n\n"+
			"event: presence\r\ndata: {\"device\":\"b\",\r\ndata: \"online\":true}\r\n\r\n"+
			"event: missed\ndata: {\"count\":3}\n\n"+
			"event: novelty\nid: 9\ndata: {}\n\n"+
			"event: command\ndata: {\"id\":\"cut in the middle")
	})
	var got []string
	var end error
	for e, err := range serve(t, mux).Live(t.Context(), client.LiveFilter{Devices: []string{"a", "b"}, Kinds: []string{"telemetry", "command"}}) {
		if err != nil {
			end = err
			break
		}
		switch {
		case e.Telemetry != nil:
			got = append(got, fmt.Sprint(e.Telemetry.Device, " ", e.Telemetry.Readings[0].Values["T"]))
		case e.Presence != nil:
			got = append(got, fmt.Sprint(e.Presence.Device, " ", e.Presence.Online))
		case e.Command != nil:
			t.Error("an event that was cut was given out")
		default:
			got = append(got, fmt.Sprint(e.Kind, " ", e.Missed))
		}
	}
	if !errors.Is(end, io.EOF) {
		t.Errorf("end = %v, want io.EOF", end)
	}
	if want := "a 1.5|b true|missed 3|novelty 0"; strings.Join(got, "|") != want {
		t.Errorf("events = %q, want %q", strings.Join(got, "|"), want)
	}
}

func TestLiveEndsWithItsContext(t *testing.T) {
	started := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/live", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		close(started)
		<-r.Context().Done()
	})
	c := serve(t, mux)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	var end error
	for _, err := range c.Live(ctx, client.LiveFilter{}) {
		end = err
	}
	if !errors.Is(end, context.Canceled) {
		t.Errorf("end = %v, want the context's", end)
	}
}
