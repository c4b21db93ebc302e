package devices_test

import (
	"bytes"
	"testing"
	"time"

	"telemetryhub/devices"
)

// A record as the hub wrote it when a device had one token: it opens, its token works, and the next change writes it in
// today's form without making the token another.
func TestARecordWithOneTokenOpens(t *testing.T) {
	const (
		token  = "dev_w0PzAbCdEfGhIjKlMnOpQrStUvWxYz0123456789abc"
		record = `{"id":"old","type":"climate","tags":["hall"],"enabled":true,"created":"2026-01-02T03:04:05.678Z","token":"bf897ffa48ba4f043e33a602a36bfc85e7038961e8f70c079f6628916d8c62e4"}`
	)
	kv := bucket(t, t.TempDir())
	if _, err := kv.Create(t.Context(), "old", []byte(record)); err != nil {
		t.Fatal(err)
	}
	r := openRegistry(t, kv)
	d, p, err := r.Authenticate("", token)
	if err != nil || d.ID != "old" || d.Type != "climate" || p.Kind != devices.ProofToken || !p.Expires.IsZero() || p.Renewal {
		t.Fatalf("%+v proves %+v, %v", d, p, err)
	}
	if created := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC); len(d.Tokens) != 1 || !d.Tokens[0].Created.Equal(created) || d.Tokens[0].ID != p.ID {
		t.Errorf("its tokens are %+v", d.Tokens)
	}
	if err := r.Current("old", p); err != nil {
		t.Errorf("what it proved: %v", err)
	}
	if _, err := r.Update(t.Context(), "old", func(d *devices.Device) error { d.Type = "power"; return nil }); err != nil {
		t.Fatal(err)
	}
	now, err := kv.Get(t.Context(), "old")
	if err != nil || !bytes.Contains(now.Value(), []byte(`"tokens":[{"id":`)) || bytes.Contains(now.Value(), []byte(`"token":`)) {
		t.Errorf("written as %s, %v", now.Value(), err)
	}
	if err := r.Current("old", p); err != nil {
		t.Errorf("what it proved, after it was written anew: %v", err)
	}
	again := openRegistry(t, kv)
	if _, after, err := again.Authenticate("old", token); err != nil || after != p {
		t.Errorf("proves %+v, %v; want as before, %+v", after, err, p)
	}
}
