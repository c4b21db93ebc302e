package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevicesImport(t *testing.T) {
	h := newHub(t)
	var asked string
	h.mux.HandleFunc("POST /api/v1/devices/import", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		asked = r.Header.Get("Content-Type") + " " + r.URL.RawQuery + " " + string(data)
		if strings.Contains(string(data), "no good") {
			reply(t, w, 422, object{"reason": "bad_import", "detail": "nothing was imported: 1 faults in 1 lines", "errors": []object{{"location": "line 2, id", "message": "has ' '"}}})
			return
		}
		reply(t, w, 200, object{"created": 1, "skipped": 1, "devices": []object{{"id": "n1", "outcome": "created", "token": "dev_1"}, {"id": "n2", "outcome": "skipped"}}})
	})
	list, tokens := filepath.Join(t.TempDir(), "list.csv"), filepath.Join(t.TempDir(), "tokens.jsonl")
	writeFile(t, list, []byte("id\nn1\nn2\n"))

	status, stdout, stderr := h.hubctl(t, "devices", "import", list, "--on-existing", "skip")
	wantStatus(t, status, exitOK, stderr)
	if stdout != "id,token,outcome\nn1,dev_1,created\nn2,,skipped\n" || asked != "text/csv on_existing=skip id\nn1\nn2\n" {
		t.Errorf("printed %q, asked %q", stdout, asked)
	}
	wantText(t, stderr, "1 devices created, 0 updated, 1 skipped")

	status, stdout, stderr = h.hubctl(t, "devices", "import", list, "--format", "jsonl", "--tokens", tokens)
	wantStatus(t, status, exitOK, stderr)
	info, err := os.Stat(tokens)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	data, _ := os.ReadFile(tokens)
	if stdout != "" || string(data) != `{"id":"n1","outcome":"created","token":"dev_1"}`+"\n"+`{"id":"n2","outcome":"skipped"}`+"\n" || !strings.HasPrefix(asked, "application/x-ndjson ") {
		t.Errorf("printed %q, wrote %q, asked %q", stdout, data, asked)
	}

	asked = ""
	status, _, stderr = h.hubctl(t, "devices", "import", list, "--tokens", tokens)
	wantStatus(t, status, exitUsage, stderr)
	if asked != "" {
		t.Error("imported, although there was no place for the tokens")
	}

	writeFile(t, list, []byte("id\nno good\n"))
	other := filepath.Join(t.TempDir(), "other.csv")
	status, _, stderr = h.hubctl(t, "devices", "import", list, "--tokens", other)
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "line 2, id: has ' '")
	if exists(other) {
		t.Error("an empty file of tokens was left")
	}
	status, _, stderr = h.hubctl(t, "devices", "import", "list")
	wantStatus(t, status, exitUsage, stderr)
	wantText(t, stderr, "--format csv")
}

func TestDevicesExport(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices", 200, object{"next": "", "devices": []object{
		{"id": "a", "type": "pump", "tags": []string{"x", "y"}, "enabled": true, "attributes": object{"room": "R, 1"}},
		{"id": "b", "tags": []string{"p;q"}, "enabled": false, "attributes": object{"floor": "2"}},
	}})
	status, stdout, stderr := h.hubctl(t, "devices", "export")
	wantStatus(t, status, exitOK, stderr)
	want := "id,type,tags,enabled,attributes.floor,attributes.room\na,pump,x;y,true,,\"R, 1\"\nb,,\"[\"\"p;q\"\"]\",false,2,\n"
	if stdout != want {
		t.Errorf("got %q, want %q", stdout, want)
	}
	status, stdout, stderr = h.hubctl(t, "devices", "export", "--format", "jsonl")
	wantStatus(t, status, exitOK, stderr)
	want = `{"id":"a","type":"pump","tags":["x","y"],"attributes":{"room":"R, 1"},"enabled":true}` + "\n" + `{"id":"b","tags":["p;q"],"attributes":{"floor":"2"},"enabled":false}` + "\n"
	if stdout != want {
		t.Errorf("got %q, want %q", stdout, want)
	}
}
