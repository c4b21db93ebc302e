package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"telemetryhub/api/client"
)

// plays runs a simulation whose devices play faults themselves.
func (s *scene) plays(ctx context.Context, names string) (client.Counts, error) {
	if err := s.embedded(ctx); err != nil {
		return client.Counts{}, err
	}
	m, err := s.simulate(load{
		devices: scale(s.lab, 50, 200), rate: scale(s.lab, 10, 20), duration: scale(s.lab, 10*time.Second, time.Minute),
		args: []string{"--faults", names},
	})
	if err != nil {
		return client.Counts{}, err
	}
	if err := s.conclude(ctx, m); err != nil {
		return client.Counts{}, err
	}
	audit, err := s.hub.audit(ctx)
	return audit.Total, err
}

// resendTwice sends acked readings again, by their numbers.
func resendTwice(ctx context.Context, s *scene) error {
	total, err := s.plays(ctx, "duplicate")
	s.happened("duplicates", int(total.Duplicate))
	return err
}

// clocks sends readings of tomorrow and of the last century among the good ones.
func clocks(ctx context.Context, s *scene) error {
	total, err := s.plays(ctx, "clock")
	s.happened("quarantined", int(total.Quarantined))
	return err
}

// badFrames sends what is no reading, and what is not JSON.
func badFrames(ctx context.Context, s *scene) error {
	total, err := s.plays(ctx, "bad-type,bad-frame")
	s.happened("quarantined", int(total.Quarantined))
	s.happened("refused", int(total.RefusedTotal()))
	return err
}

// brokenConnections leaves connections dead and open, drops them, and reads slowly.
func brokenConnections(ctx context.Context, s *scene) error {
	if err := s.embedded(ctx); err != nil {
		return err
	}
	m, err := s.simulate(load{
		devices: scale(s.lab, 50, 200), rate: scale(s.lab, 10, 20), duration: scale(s.lab, 12*time.Second, 2*time.Minute),
		args: []string{"--faults", "half-open,disconnect,slow-reader"},
	})
	if err != nil {
		return err
	}
	err = s.conclude(ctx, m)
	if v, judgeErr := m.judge(ctx, judgeLimit); judgeErr == nil {
		s.happened("reconnects", int(v.Reconnects))
	}
	return err
}

// fieldNames lets one device send more different field names than its budget has, while others live on: what is within
// is stored, the rest is named.
func fieldNames(ctx context.Context, s *scene) error {
	if err := s.embedded(ctx); err != nil {
		return err
	}
	const inventor, names = "inventor", 1500
	s.extra[inventor] = true
	made, err := s.hub.api.CreateDevice(ctx, client.NewDevice{ID: inventor})
	if err != nil {
		return fmt.Errorf("create the device: %w", err)
	}
	m, err := s.simulate(load{devices: 20, rate: 10, duration: scale(s.lab, 5*time.Second, 30*time.Second)})
	if err != nil {
		return err
	}
	if err := s.invent(ctx, inventor, made.Token, names); err != nil {
		return err
	}
	if err := s.conclude(ctx, m); err != nil {
		return err
	}
	audit, err := s.hub.api.Audit(ctx, inventor)
	if err != nil {
		return fmt.Errorf("audit of the device: %w", err)
	}
	latest, err := s.hub.api.Latest(ctx, inventor, "")
	if err != nil {
		return fmt.Errorf("latest of the device: %w", err)
	}
	found := len(latest.Values)
	s.sent += names
	s.acked += names
	s.stored += audit.Total.Stored
	s.happened("names", names)
	s.happened("names_stored", found)
	s.happened("names_over_budget", int(audit.Total.Quarantined+audit.Total.RefusedTotal()))
	if explained := audit.Total.Stored + audit.Total.Quarantined + audit.Total.RefusedTotal(); explained != names {
		s.problem("of %d readings with new names the account explains %d", names, explained)
	}
	if uint64(found) != audit.Total.Stored {
		s.problem("%d readings with new names are stored, and %d names are found", audit.Total.Stored, found)
	}
	return nil
}

// invent posts readings that each have a field of their own.
func (s *scene) invent(ctx context.Context, device, token string, names int) error {
	pem, err := os.ReadFile(s.hub.caFile())
	if err != nil {
		return fmt.Errorf("read the CA: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	now := time.Now().UnixMilli()
	const batch = 50
	for from := 0; from < names; from += batch {
		body := bytes.NewBufferString(`{"readings":[`)
		for i := from; i < from+batch; i++ {
			if i > from {
				body.WriteByte(',')
			}
			fmt.Fprintf(body, `{"ts":%d,"values":{"name%04d":%d}}`, now-int64(i), i, i)
		}
		body.WriteString("]}")
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.hub.url()+"/api/v1/devices/"+device+"/telemetry", body)
		if err != nil {
			return fmt.Errorf("make the request: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(r)
		if err != nil {
			return fmt.Errorf("send readings: %w", err)
		}
		text, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("send readings: %s %s %w", resp.Status, text, err)
		}
	}
	return nil
}
