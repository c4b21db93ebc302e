package store_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"telemetryhub/store"
)

// InfluxDB 2.x cannot be installed where these tests run. This is a contract test: the answers are those that its API
// reference prints (https://docs.influxdata.com/influxdb/v2/api/v2/), the requests are checked against it.
func TestContractOfCheckWithInfluxDB2(t *testing.T) {
	const bucket = `{"buckets":[{"id":"b1","orgID":"o1","type":"user","name":"plant","retentionRules":[]}]}`
	mapping := func(bucketID, db, rp string, isDefault bool) string {
		return fmt.Sprintf(`{"content":[{"id":"m1","database":%q,"retention_policy":%q,"default":%t,"orgID":"o1","bucketID":%q}]}`, db, rp, isDefault, bucketID)
	}
	for _, c := range []struct {
		name                    string
		buckets, mappings       string
		bucketsStatus, madeWith int
		wantMend                string
		wantCreated             bool
	}{
		{"mapped", bucket, mapping("b1", "plant", "autogen", true), 200, 0, "", false},
		{"not mapped, may create", bucket, `{"content":[]}`, 200, 201, "", true},
		{"not mapped, may not create", bucket, `{"content":[]}`, 200, 401, "influx v1 dbrp create --bucket-id b1 --db plant --rp autogen --default", true},
		{"mapped to another bucket", bucket, mapping("b2", "plant", "autogen", true), 200, 0, "influx v1 dbrp delete", false},
		{"mapped, not by default", bucket, mapping("b1", "plant", "other", false), 200, 201, "", true},
		{"no bucket", `{"buckets":[]}`, "", 200, 0, "influx bucket create --org works --name plant", false},
		{"no bucket, 404", `{"code":"not found","message":"bucket \"plant\" not found"}`, "", 404, 0, "influx bucket create", false},
		{"token of nobody", `{"code":"unauthorized","message":"unauthorized access"}`, "", 401, 0, "token", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			created := false
			s := fake(t, store.InfluxConfig{Org: "works", Bucket: "plant", Token: "tok"}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				q := r.URL.Query()
				switch r.Method + " " + r.URL.Path {
				case "GET /ping":
					w.Header().Set("X-Influxdb-Version", "v2.7.12")
					w.WriteHeader(204)
				case "GET /api/v2/buckets":
					if q.Get("name") != "plant" || q.Get("org") != "works" || r.Header.Get("Authorization") != "Token tok" {
						t.Errorf("buckets asked with %s", r.URL)
					}
					w.WriteHeader(c.bucketsStatus)
					fmt.Fprint(w, c.buckets)
				case "GET /api/v2/dbrps":
					if q.Get("orgID") != "o1" || q.Get("db") != "plant" {
						t.Errorf("dbrps asked with %s", r.URL)
					}
					fmt.Fprint(w, c.mappings)
				case "POST /api/v2/dbrps":
					created = true
					w.WriteHeader(c.madeWith)
					fmt.Fprint(w, `{}`)
				default:
					t.Errorf("unexpected %s %s", r.Method, r.URL)
				}
			})
			err := s.Check(t.Context())
			var config *store.ConfigError
			if c.wantMend == "" && err != nil || c.wantMend != "" && (!errors.As(err, &config) || !strings.Contains(config.Mend, c.wantMend)) {
				t.Errorf("Check: %v, want mend …%s…", err, c.wantMend)
			}
			if created != c.wantCreated {
				t.Errorf("mapping created: %t", created)
			}
		})
	}
}

// A real 1.8 with authentication refuses so; the answer is its own.
func TestContractOfCheckWhenTheDatabaseMayNotBeCreated(t *testing.T) {
	s := fake(t, store.InfluxConfig{Bucket: "plant"}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Influxdb-Version", "1.8.10")
		switch {
		case r.URL.Path == "/ping":
			w.WriteHeader(204)
		case strings.HasPrefix(r.FormValue("q"), "SHOW"):
			fmt.Fprint(w, `{"results":[{"statement_id":0,"error":"database not found: plant"}]}`)
		default:
			w.WriteHeader(403)
			fmt.Fprint(w, `{"error":"error authorizing query: user not authorized to execute statement 'CREATE DATABASE plant', requires admin privilege"}`)
		}
	})
	var config *store.ConfigError
	if err := s.Check(t.Context()); !errors.As(err, &config) || !strings.Contains(config.Mend, `CREATE DATABASE "plant"`) {
		t.Errorf("Check: %v", err)
	}
}

func TestContractOfCheckWithInfluxDB3(t *testing.T) {
	status, body := 200, `{"results":[{"statement_id":0,"error":"database not found: plant"}]}`
	s := fake(t, store.InfluxConfig{Bucket: "plant", Token: "tok"}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Influxdb-Version", "3.2.1")
		if r.URL.Path == "/query" {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	})
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("the first write makes the database: %v", err)
	}
	status, body = 401, `{"error":"the request was not authenticated"}`
	var config *store.ConfigError
	if err := s.Check(t.Context()); !errors.As(err, &config) || config.Status != 401 {
		t.Errorf("Check: %v", err)
	}
}
