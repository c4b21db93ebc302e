package auth_test

import (
	"encoding/json"
	"strings"
	"testing"

	"telemetryhub/auth"
)

func TestNewTokenMatchesOnlyItsHash(t *testing.T) {
	token, hash, err := auth.NewToken(auth.DevicePrefix)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(token, "dev_") || len(token) != len("dev_")+43 {
		t.Errorf("token has an unexpected form: %d characters, %q…", len(token), token[:4])
	}
	if !hash.Matches(token) || hash != auth.HashToken(token) {
		t.Error("the hash does not match its token")
	}
	for _, wrong := range []string{"", token[:len(token)-1], token + "x", "op_" + token[4:], hashText(t, hash)} {
		if hash.Matches(wrong) {
			t.Errorf("the hash matches %q", wrong)
		}
	}
	other, _, err := auth.NewToken(auth.DevicePrefix)
	if err != nil {
		t.Fatal(err)
	}
	if other == token {
		t.Error("two tokens are the same")
	}
	if _, _, err := auth.NewToken("root"); err == nil {
		t.Error("an unknown prefix was taken")
	}
}

func TestHashInJSON(t *testing.T) {
	// The digest of "abc" is the first example of FIPS 180-4.
	hash := auth.HashToken("abc")
	const want = `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`
	data, err := json.Marshal(hash)
	if err != nil || string(data) != want {
		t.Fatalf("json = %s, %v; want %s", data, err, want)
	}
	var back auth.Hash
	if err := json.Unmarshal(data, &back); err != nil || back != hash {
		t.Errorf("read back %v, %v", back, err)
	}
	for _, bad := range []string{`"ba78"`, `"` + strings.Repeat("zz", 32) + `"`, `"` + strings.Repeat("ab", 33) + `"`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s was taken for a hash", bad)
		}
	}
	var zero auth.Hash
	if data, err := json.Marshal(zero); err != nil || string(data) != `""` {
		t.Errorf("the zero hash is %s, %v", data, err)
	}
	if err := json.Unmarshal([]byte(`""`), &back); err != nil || !back.IsZero() {
		t.Errorf("the empty text is %v, %v", back, err)
	}
	if zero.Matches("") {
		t.Error("the zero hash matches the empty token")
	}
}

func TestRoleAllows(t *testing.T) {
	order := []auth.Role{auth.RoleViewer, auth.RoleOperator, auth.RoleAdmin}
	for i, have := range order {
		for j, need := range order {
			if got := have.Allows(need); got != (i >= j) {
				t.Errorf("%s allows %s = %v", have, need, got)
			}
		}
	}
	for _, pair := range [][2]auth.Role{{"", auth.RoleViewer}, {"root", auth.RoleViewer}, {auth.RoleAdmin, ""}, {auth.RoleAdmin, "root"}, {"", ""}} {
		if pair[0].Allows(pair[1]) {
			t.Errorf("%q allows %q", pair[0], pair[1])
		}
	}
}

func hashText(t *testing.T, hash auth.Hash) string {
	t.Helper()
	text, err := hash.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
