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
	"slices"
	"strings"
)

// checkServer finds out what the server is, and whether there is a place for the points that InfluxQL can read.
func (s *Store) checkServer(ctx context.Context) error {
	header, err := s.ask(ctx, http.MethodGet, "ping", nil, nil)
	if err != nil {
		return err
	}
	version := strings.TrimPrefix(header.Get("X-Influxdb-Version"), "v")
	switch {
	case strings.HasPrefix(version, "2."), !strings.HasPrefix(version, "1.") && s.place.org != "": // Cloud tells no version
		return s.checkMapping(ctx)
	case !strings.HasPrefix(version, "3."): // 1.8 built by `go install` says "unknown"
		return s.checkDatabase(ctx)
	}
	// 3 makes a database by the first write; this tells whether the token is good.
	var config *ConfigError
	_, err = s.run(ctx, "SHOW MEASUREMENTS LIMIT 1")
	if errors.As(err, &config) && config.Status == 0 {
		return nil // there is no database yet
	}
	return err
}

// checkDatabase looks for the database and retention policy of 1.8, and creates a database that is missing.
func (s *Store) checkDatabase(ctx context.Context) error {
	ask := "SHOW RETENTION POLICIES ON " + quoteName(s.place.db)
	results, err := s.run(ctx, ask)
	if config, ok := errors.AsType[*ConfigError](err); ok && config.Status == 0 {
		create := "CREATE DATABASE " + quoteName(s.place.db)
		if _, err := s.run(ctx, create); err != nil {
			if _, later := errors.AsType[*RetryError](err); later {
				return err
			}
			return &ConfigError{
				Message: fmt.Sprintf("database %q does not exist and could not be created: %v", s.place.db, err),
				Mend:    "an administrator can run: " + create,
			}
		}
		s.log.Info("database created", "database", s.place.db)
		results, err = s.run(ctx, ask)
	}
	if err != nil || s.place.rp == "" {
		return err
	}
	for _, series := range results[0].Series {
		name := slices.Index(series.Columns, "name")
		for _, values := range series.Values {
			if name >= 0 && name < len(values) && values[name] == s.place.rp {
				return nil
			}
		}
	}
	return &ConfigError{
		Message: fmt.Sprintf("database %q has no retention policy %q", s.place.db, s.place.rp),
		Mend: "run: CREATE RETENTION POLICY " + quoteName(s.place.rp) + " ON " + quoteName(s.place.db) +
			" DURATION INF REPLICATION 1; or set bucket to the database alone",
	}
}

// checkMapping looks for the bucket and for the mapping (DBRP) by which /query finds it, of InfluxDB 2.x:
// https://docs.influxdata.com/influxdb/v2/api/v2/#tag/DBRPs. A missing mapping is created.
func (s *Store) checkMapping(ctx context.Context) error {
	bucket, org, err := s.findBucket(ctx)
	if err != nil {
		return err
	}
	var mappings struct {
		Content []struct {
			Database string `json:"database"`
			Policy   string `json:"retention_policy"`
			Default  bool   `json:"default"`
			Bucket   string `json:"bucketID"`
		} `json:"content"`
	}
	list := "api/v2/dbrps?" + url.Values{"orgID": {org}, "db": {s.place.db}}.Encode()
	if _, err := s.ask(ctx, http.MethodGet, list, nil, &mappings); err != nil {
		return err
	}
	for _, m := range mappings.Content {
		if m.Database != s.place.db || m.Policy != s.place.rp && (s.place.rp != "" || !m.Default) {
			continue
		}
		if m.Bucket == bucket {
			return nil
		}
		return &ConfigError{
			Message: fmt.Sprintf("the InfluxQL database %q is mapped to another bucket (%s)", s.place.db, m.Bucket),
			Mend:    "remove that mapping (influx v1 dbrp delete) or use that bucket",
		}
	}
	policy := s.place.rp
	if policy == "" {
		policy = "autogen"
	}
	mapping := map[string]any{
		"bucketID": bucket, "orgID": org, "database": s.place.db, "retention_policy": policy, "default": true,
	}
	if _, err := s.ask(ctx, http.MethodPost, "api/v2/dbrps", mapping, nil); err != nil {
		if _, later := errors.AsType[*RetryError](err); later {
			return err
		}
		return &ConfigError{
			Message: fmt.Sprintf("bucket %q has no InfluxQL mapping and it could not be created: %v", s.place.bucket, err),
			Mend: fmt.Sprintf("run: influx v1 dbrp create --bucket-id %s --db %s --rp %s --default",
				bucket, s.place.db, policy),
		}
	}
	s.log.Info("InfluxQL mapping created", "bucket", s.place.bucket, "database", s.place.db, "retention_policy", policy)
	return nil
}

// findBucket gives the ids of the bucket and its organisation.
func (s *Store) findBucket(ctx context.Context) (bucket, org string, err error) {
	var found struct {
		Buckets []struct {
			ID  string `json:"id"`
			Org string `json:"orgID"`
		} `json:"buckets"`
	}
	path := "api/v2/buckets?" + url.Values{"name": {s.place.bucket}, "org": {s.place.org}}.Encode()
	_, err = s.ask(ctx, http.MethodGet, path, nil, &found)
	var config *ConfigError
	missing := errors.As(err, &config) && config.Status == http.StatusNotFound || err == nil && len(found.Buckets) == 0
	if missing {
		return "", "", &ConfigError{
			Status:  http.StatusNotFound,
			Message: fmt.Sprintf("organisation %q has no bucket %q that the token may see", s.place.org, s.place.bucket),
			Mend: fmt.Sprintf("run: influx bucket create --org %s --name %s; and give the token read and write access",
				s.place.org, s.place.bucket),
		}
	}
	if err != nil {
		return "", "", err
	}
	return found.Buckets[0].ID, found.Buckets[0].Org, nil
}

// ask does one request at the server's base address, with JSON both ways where wanted.
func (s *Store) ask(ctx context.Context, method, path string, body, into any) (http.Header, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("store: check: %w", err)
		}
	}
	service := s.client.HTTPService()
	ctx, kept := keepAnswer(ctx)
	request, err := http.NewRequestWithContext(ctx, method, service.ServerURL()+path, bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("store: check: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	failed := service.DoHTTPRequest(request, nil, func(response *http.Response) error {
		defer response.Body.Close()
		if into == nil {
			return nil
		}
		return json.NewDecoder(io.LimitReader(response.Body, maxErrorBody)).Decode(into)
	})
	switch {
	case failed == nil:
		return kept.header, nil
	case kept.status == 0:
		return nil, &RetryError{Err: fmt.Errorf("check: %w", failed)}
	}
	text, _ := kept.message()
	return nil, otherOutcome("check", kept, text)
}
