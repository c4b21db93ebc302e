package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/auth"
)

// openBucket starts a real JetStream in the process and makes an empty bucket.
func openBucket(t *testing.T) jetstream.KeyValue {
	t.Helper()
	ns, err := server.NewServer(&server.Options{
		DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxMemory: 1 << 20, JetStreamMaxStore: 64 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server does not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "operators", Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func openOperators(t *testing.T, kv jetstream.KeyValue, tokenFile string) *auth.Operators {
	t.Helper()
	operators, err := auth.OpenOperators(t.Context(), kv, tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = operators.Close() })
	return operators
}

func readToken(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func wantOperator(t *testing.T, operators *auth.Operators, token string, want auth.Operator) {
	t.Helper()
	if got, ok := operators.Authenticate(token, time.Now()); !ok || !same(got, want) {
		t.Errorf("token belongs to %+v, %v; want %+v", got, ok, want)
	}
}

// same compares who it is, not how they proved it.
func same(a, b auth.Operator) bool {
	return a.Name == b.Name && a.Role == b.Role && a.Scope.Equal(b.Scope)
}

// known is the operator of a token.
func known(t *testing.T, operators *auth.Operators, token string) auth.Operator {
	t.Helper()
	op, ok := operators.Authenticate(token, time.Now())
	if !ok {
		t.Fatal("the token is not known")
	}
	return op
}

func add(t *testing.T, operators *auth.Operators, n auth.NewOperator) (token string) {
	t.Helper()
	_, token, err := operators.Add(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var admin = auth.Operator{Name: "admin", Role: auth.RoleAdmin}

func TestFirstStartMakesTheAdminToken(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	operators := openOperators(t, kv, file)
	token := readToken(t, file)
	wantOperator(t, operators, token, admin)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the token's file: %v, %v", info.Mode(), err)
	}
	for _, wrong := range []string{"", "op_", token[:len(token)-1], token + "A", strings.ToUpper(token)} {
		if got, ok := operators.Authenticate(wrong, time.Now()); ok {
			t.Errorf("a wrong token belongs to %+v", got)
		}
	}
	wantSecretNowhere(t, kv, token)

	// A later start knows the token and writes no other, also when the file has been put away.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	again := openOperators(t, kv, file)
	wantOperator(t, again, token, admin)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second start wrote a token: %v", err)
	}
}

// wantSecretNowhere reads the whole bucket for the token itself.
func wantSecretNowhere(t *testing.T, kv jetstream.KeyValue, token string) {
	t.Helper()
	keys, err := kv.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		entry, err := kv.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(entry.Value()), strings.TrimPrefix(token, "op_")) {
			t.Errorf("key %s holds the token itself", key)
		}
	}
}

func TestUnwritableTokenFileLeavesTheBucketEmpty(t *testing.T) {
	kv := openBucket(t)
	_, err := auth.OpenOperators(t.Context(), kv, filepath.Join(t.TempDir(), "missing", "admin.token"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("error = %v, want that of the file", err)
	}
	// Else nobody would ever learn the admin's token.
	file := filepath.Join(t.TempDir(), "admin.token")
	wantOperator(t, openOperators(t, kv, file), readToken(t, file), admin)
}

func TestAddAndRemoveOperators(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	operators := openOperators(t, kv, file)
	eve := auth.Operator{Name: "eve", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{"hall", "yard"}}}
	fresh := auth.NewOperator{Name: "eve", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{"yard", "hall", "yard"}}}
	token := add(t, operators, fresh)
	wantOperator(t, operators, token, eve)
	wantOperator(t, openOperators(t, kv, file), token, eve)
	wantSecretNowhere(t, kv, token)
	list := operators.List()
	if len(list) != 2 || list[0].Name != "admin" || list[1].Name != "eve" || !list[1].Enabled || len(list[1].Tokens) != 1 || list[1].Tokens[0].Name != "default" {
		t.Errorf("list = %+v", list)
	}
	if _, _, err := operators.Add(t.Context(), fresh); !errors.Is(err, auth.ErrOperatorExists) {
		t.Errorf("adding twice: %v", err)
	}
	for _, bad := range []auth.NewOperator{
		{Name: "", Role: auth.RoleViewer},
		{Name: "a.b", Role: auth.RoleViewer},
		{Name: "a>", Role: auth.RoleViewer},
		{Name: "bob", Role: "root"},
		{Name: "bob", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{""}}},
		{Name: "bob", Role: auth.RoleViewer, Token: "a.b"},
		{Name: "bob", Role: auth.RoleViewer, Expires: time.Now().Add(-time.Second)},
	} {
		if _, _, err := operators.Add(t.Context(), bad); !isInvalid(err) {
			t.Errorf("%+v was added: %v", bad, err)
		}
	}
	if err := operators.Remove(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	if _, ok := operators.Authenticate(token, time.Now()); ok {
		t.Error("a removed operator still gets in")
	}
	if _, ok := openOperators(t, kv, file).Authenticate(token, time.Now()); ok {
		t.Error("a removed operator gets in after a restart")
	}
	if err := operators.Remove(t.Context(), "eve"); !errors.Is(err, auth.ErrOperatorNotFound) {
		t.Errorf("removing twice: %v", err)
	}
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[*auth.InvalidOperatorError](err)
	return ok
}

func TestCookieLastsTwelveHoursAndSurvivesARestart(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	operators := openOperators(t, kv, file)
	now := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	value, expires, err := operators.NewCookie(known(t, operators, readToken(t, file)), now)
	if err != nil {
		t.Fatal(err)
	}
	if want := now.Add(12 * time.Hour).Truncate(time.Second); !expires.Equal(want) {
		t.Errorf("expires %v, want %v", expires, want)
	}
	for name, opened := range map[string]*auth.Operators{"same": operators, "restarted": openOperators(t, kv, file)} {
		for _, at := range []time.Time{now, expires.Add(-time.Nanosecond)} {
			if got, ok := opened.FromCookie(value, at); !ok || !same(got, admin) || !got.Until.Equal(expires) {
				t.Errorf("%s: at %v the cookie is of %+v, %v", name, at, got, ok)
			}
		}
		if _, ok := opened.FromCookie(value, expires); ok {
			t.Errorf("%s: the cookie outlives its end", name)
		}
	}
	stranger := openOperators(t, openBucket(t), filepath.Join(t.TempDir(), "admin.token"))
	if _, ok := stranger.FromCookie(value, now); ok {
		t.Error("another hub takes the cookie")
	}
}

func TestCookieCannotBeForged(t *testing.T) {
	operators := openOperators(t, openBucket(t), filepath.Join(t.TempDir(), "admin.token"))
	token := add(t, operators, auth.NewOperator{Name: "eve", Role: auth.RoleViewer})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	value, expires, err := operators.NewCookie(known(t, operators, token), now)
	if err != nil {
		t.Fatal(err)
	}
	name, rest, _ := strings.Cut(value, ".")
	end, signature, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] ^= 1
	flipped := base64.RawURLEncoding.EncodeToString(raw)
	adminName := base64.RawURLEncoding.EncodeToString([]byte("admin"))
	later := strconv.FormatInt(expires.Add(time.Hour).Unix(), 10)
	for _, forged := range []string{
		"", ".", "..", name, name + "." + end, name + "." + end + ".", adminName + "." + end + "." + signature,
		name + "." + later + "." + signature, name + "." + end + "." + flipped, name + "." + end + "." + signature[:40],
		name + "." + end + "." + signature + ".x", strings.Repeat("A", 4096),
	} {
		if got, ok := operators.FromCookie(forged, now); ok {
			t.Errorf("cookie %q is taken for one of %+v", forged, got)
		}
	}
	if _, _, err := operators.NewCookie(auth.Operator{Name: "nobody", Role: auth.RoleAdmin}, now); !errors.Is(err, auth.ErrTokenNotFound) {
		t.Errorf("cookie for nobody: %v", err)
	}
}

func TestCookieDiesWithTheToken(t *testing.T) {
	operators := openOperators(t, openBucket(t), filepath.Join(t.TempDir(), "admin.token"))
	eve := auth.NewOperator{Name: "eve", Role: auth.RoleViewer}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	value, _, err := operators.NewCookie(known(t, operators, add(t, operators, eve)), now)
	if err != nil {
		t.Fatal(err)
	}
	if err := operators.Remove(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	if _, ok := operators.FromCookie(value, now); ok {
		t.Error("the cookie of a removed operator counts")
	}
	add(t, operators, eve) // the same name with another token
	if _, ok := operators.FromCookie(value, now); ok {
		t.Error("the cookie outlived its token")
	}
}

func TestOpenOperatorsEndsWithItsContext(t *testing.T) {
	kv := openBucket(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "admin.token")
	if _, err := auth.OpenOperators(ctx, kv, file); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a token was written: %v", err)
	}
}
