package devices_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"telemetryhub/devices"
)

// What a request shows of itself is a part of its header or of its query, and none is made up.
func FuzzCredentialsOf(f *testing.F) {
	for _, seed := range [][2]string{
		{"Bearer dev_x", ""},
		{"bearer  dev_x ", "token=dev_y"},
		{"Basic ZDE6ZGV2X3g=", ""},
		{"Basic Y2VsbGFyOjE6ZGV2X3g=", ""},
		{"Basic %%%", "token=a&token=b"},
		{"", "token=dev_x"},
		{"", "token=%zz"},
		{"Digest x", "token="},
		{"Bearer", ""},
		{"Basic Og==", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, authorization, query string) {
		r := &http.Request{Header: http.Header{"Authorization": {authorization}}, URL: &url.URL{RawQuery: query}}
		for _, allowed := range []bool{false, true} {
			shown, ok := devices.CredentialsOf(r, allowed)
			if !ok && shown != (devices.Credentials{}) {
				t.Errorf("%+v without credentials", shown)
			}
			scheme, rest, _ := strings.Cut(authorization, " ")
			user, password, basic := r.BasicAuth()
			switch {
			case strings.EqualFold(scheme, "Bearer") && authorization != scheme:
				if shown.Device != "" || shown.Token != strings.TrimSpace(rest) {
					t.Errorf("%q shows %+v", authorization, shown)
				}
			case basic:
				if shown.Device+":"+shown.Token != user+":"+password || strings.Contains(shown.Token, ":") {
					t.Errorf("%q shows %+v", authorization, shown)
				}
			case ok && (!allowed || shown.Device != "" || shown.Token != r.URL.Query().Get("token")):
				t.Errorf("%q, %q shows %+v", authorization, query, shown)
			}
		}
	})
}
