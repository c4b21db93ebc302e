package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"telemetryhub/api/client"
)

// behaviour is a way in which the proxy makes InfluxDB misbehave.
type behaviour struct {
	name     string
	timeout  time.Duration               // the hub's, of one write
	make     func(s *scene) func(*write) // what a write meets
	evidence func(s *scene)              // that it happened
}

// misbehaviours are the faults that the proxy plays.
func misbehaviours() []fault {
	answers := func(status int) func(*scene) {
		return func(s *scene) { s.happened("answered", s.proxy.counted(fmt.Sprint(status))) }
	}
	var list []fault
	for _, b := range []behaviour{
		{name: "influxdb-slow", timeout: time.Second, make: slow, evidence: func(s *scene) {
			s.happened("delayed", s.proxy.counted("delayed"))
			s.happened("too_late", s.proxy.counted("too late"))
		}},
		{name: "influxdb-500", timeout: 10 * time.Second, make: failing, evidence: answers(http.StatusInternalServerError)},
		{name: "influxdb-429", timeout: 10 * time.Second, make: limiting, evidence: func(s *scene) {
			answers(http.StatusTooManyRequests)(s)
			s.never("came_early", s.proxy.counted("early"))
		}},
		{name: "influxdb-413", timeout: 10 * time.Second, make: narrow, evidence: answers(http.StatusRequestEntityTooLarge)},
		{name: "influxdb-400-one-line", timeout: 10 * time.Second, make: poisoned, evidence: answers(http.StatusBadRequest)},
		{name: "influxdb-cut", timeout: 10 * time.Second, make: cutting, evidence: func(s *scene) {
			for _, where := range []string{"in_request", "before_answer", "in_answer"} {
				s.happened(where, s.proxy.counted(where))
			}
		}},
	} {
		list = append(list, fault{b.name, func(ctx context.Context, s *scene) error { return s.misbehave(ctx, b) }})
	}
	return list
}

func (s *scene) misbehave(ctx context.Context, b behaviour) error {
	if err := s.withInfluxDB(ctx, b.timeout); err != nil {
		return err
	}
	s.proxy.play(b.make(s))
	m, err := s.simulate(load{devices: 50, rate: 20, duration: scale(s.lab, 10*time.Second, time.Minute)})
	if err != nil {
		return err
	}
	err = s.conclude(ctx, m)
	b.evidence(s)
	return err
}

// slow stores at once and answers late, each third time later than the hub waits: it cannot know that all is stored.
func slow(s *scene) func(*write) {
	return func(w *write) {
		a, err := w.forward(w.read())
		if err != nil {
			w.refuse(http.StatusBadGateway, err.Error())
			return
		}
		wait, what := 400*time.Millisecond, "delayed"
		if w.number%3 == 0 {
			wait, what = 1500*time.Millisecond, "too late"
		}
		s.proxy.count(what)
		if pause(w.r.Context(), wait) == nil {
			w.answer(a.status, string(a.body))
		}
	}
}

// failing answers two of three writes with 500, and has stored one of the two.
func failing(s *scene) func(*write) {
	return func(w *write) {
		switch w.number % 3 {
		case 0:
			w.pass()
			return
		case 1:
			if _, err := w.forward(w.read()); err != nil {
				s.lab.say("the database does not answer: %v", err)
			}
		}
		w.read()
		s.proxy.count("500")
		w.refuse(http.StatusInternalServerError, "engine: cannot write")
	}
}

// limiting answers each second write with 429 and the time when the next is welcome.
func limiting(s *scene) func(*write) {
	const after = 2 * time.Second
	var mu sync.Mutex
	var welcome time.Time
	return func(w *write) {
		w.read()
		mu.Lock()
		early := time.Now().Before(welcome)
		limit := early || w.number%2 == 1
		if limit {
			welcome = time.Now().Add(after)
		}
		mu.Unlock()
		if early {
			s.proxy.count("early")
		}
		if !limit {
			w.pass()
			return
		}
		s.proxy.count("429")
		w.w.Header().Set("Retry-After", fmt.Sprint(int(after.Seconds())))
		w.refuse(http.StatusTooManyRequests, "write rate limit exceeded")
	}
}

// narrow takes few lines at a time.
func narrow(s *scene) func(*write) {
	const most = 40
	return func(w *write) {
		if bytes.Count(w.read(), []byte("\n")) > most {
			s.proxy.count("413")
			w.refuse(http.StatusRequestEntityTooLarge, "request body too large")
			return
		}
		w.pass()
	}
}

// poisoned rejects for ever one in 5,000 lines, and stores the others of the same write, as InfluxDB does. In the end
// exactly the rejected ones have to be in the quarantine.
func poisoned(s *scene) func(*write) {
	const oneIn, first = 5000, 1000
	var mu sync.Mutex
	known, bad := map[string]bool{}, map[string]bool{}
	s.aside = func(ctx context.Context) error { return s.checkAside(ctx, bad) }
	return func(w *write) {
		var good, rejected []string
		mu.Lock()
		for line := range strings.Lines(string(w.read())) {
			line = strings.TrimSuffix(line, "\n")
			if !known[line] {
				known[line] = true
				bad[line] = len(known)%oneIn == first // they stay the same over the hub's tries
			}
			if bad[line] {
				rejected = append(rejected, line)
			} else {
				good = append(good, line)
			}
		}
		mu.Unlock()
		if len(rejected) == 0 {
			w.pass()
			return
		}
		if a, err := w.forward([]byte(strings.Join(good, "\n"))); len(good) > 0 && (err != nil || a.status >= 300) {
			w.refuse(http.StatusBadGateway, "the database does not answer")
			return
		}
		s.proxy.count("400")
		w.refuse(http.StatusBadRequest, fmt.Sprintf(`partial write: field type conflict: input field "temperature" is of another type dropped=%d`, len(rejected)))
	}
}

// checkAside compares the quarantine with the lines that were rejected.
func (s *scene) checkAside(ctx context.Context, known map[string]bool) error {
	var want, got []string
	for line, bad := range known {
		if bad {
			want = append(want, inMillis(line))
		}
	}
	for item, err := range s.hub.api.Quarantine(ctx, client.QuarantineFilter{}) {
		if err != nil {
			return fmt.Errorf("read the quarantine: %w", err)
		}
		got = append(got, inMillis(strings.TrimSuffix(item.Frame, "\n")))
	}
	slices.Sort(want)
	slices.Sort(got)
	s.happened("rejected", len(want))
	if !slices.Equal(want, got) {
		s.problem("%d lines were rejected, %d are in the quarantine, and they are not the same", len(want), len(got))
	}
	s.named = uint64(len(want))
	return nil
}

// inMillis is a line with its time in ms: the hub writes ns and tells ms.
func inMillis(line string) string {
	const digits, more = 13, 6 // of a time of these years in ms; and what ns have beyond
	if at := strings.LastIndexByte(line, ' '); len(line)-at-1 == digits+more {
		return line[:len(line)-more]
	}
	return line
}

// cutting closes the connection in the middle: of the request, before the answer, or within it.
func cutting(s *scene) func(*write) {
	return func(w *write) {
		switch w.number % 4 {
		case 0:
			w.pass()
		case 1:
			_, _ = w.r.Body.Read(make([]byte, 1+rand.IntN(2000))) // a part of it
			s.proxy.count("in_request")
			w.hangUp("")
		case 2:
			if _, err := w.forward(w.read()); err == nil {
				s.proxy.count("before_answer")
			}
			w.hangUp("")
		case 3:
			if _, err := w.forward(w.read()); err == nil {
				s.proxy.count("in_answer")
			}
			w.hangUp("HTTP/1.1 20")
		}
	}
}
