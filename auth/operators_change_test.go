package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"telemetryhub/auth"
)

// await waits until a condition holds, woken by each change of the operators.
func await(t *testing.T, operators *auth.Operators, what string, holds func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		changes := operators.Changes()
		if holds() {
			return
		}
		select {
		case <-changes:
		case <-late:
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

func TestChangesCountAtOnceAndOnOtherHubs(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	here, there := openOperators(t, kv, file), openOperators(t, kv, file)
	token := add(t, here, auth.NewOperator{Name: "eve", Role: auth.RoleOperator})
	gets := func(o *auth.Operators) auth.Operator {
		op, _ := o.Authenticate(token, time.Now())
		return op
	}
	await(t, there, "the other hub knows eve", func() bool { return gets(there).Name == "eve" })
	cookie, _, err := there.NewCookie(gets(there), time.Now())
	if err != nil {
		t.Fatal(err)
	}

	viewer, hall := auth.RoleViewer, auth.Scope{Tags: []string{"hall"}}
	told := here.Changes()
	if _, err := here.Change(t.Context(), "eve", auth.OperatorChange{Role: &viewer, Scope: &hall}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	default:
		t.Error("nobody was told of the change")
	}
	if op := gets(here); op.Role != viewer || !op.Scope.Equal(hall) {
		t.Errorf("here eve is %+v", op)
	}
	await(t, there, "the other hub knows of the change", func() bool { return gets(there).Role == viewer && gets(there).Scope.Equal(hall) })
	if op, ok := there.FromCookie(cookie, time.Now()); !ok || op.Role != viewer || !op.Scope.Equal(hall) {
		t.Errorf("by cookie eve is %+v, %v", op, ok)
	}

	off, all := false, auth.Scope{}
	if _, err := here.Change(t.Context(), "eve", auth.OperatorChange{Enabled: &off, Scope: &all}); err != nil {
		t.Fatal(err)
	}
	if op, ok := here.Authenticate(token, time.Now()); ok {
		t.Errorf("the disabled %+v gets in", op)
	}
	await(t, there, "the other hub knows that eve is disabled", func() bool { return gets(there).Name == "" })
	if _, ok := there.FromCookie(cookie, time.Now()); ok {
		t.Error("the cookie of a disabled operator counts")
	}
	on := true
	if a, err := there.Change(t.Context(), "eve", auth.OperatorChange{Enabled: &on}); err != nil || !a.Enabled || !a.Scope.All() || a.Role != viewer {
		t.Errorf("enabled again: %+v, %v", a, err)
	}
	if err := there.Remove(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	await(t, here, "eve is gone here too", func() bool { return len(here.List()) == 1 })
	if _, err := here.Change(t.Context(), "eve", auth.OperatorChange{}); !errors.Is(err, auth.ErrOperatorNotFound) {
		t.Errorf("changing nobody: %v", err)
	}
}

func TestOperatorsHaveSeveralTokens(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	operators := openOperators(t, kv, file)
	first := add(t, operators, auth.NewOperator{Name: "eve", Role: auth.RoleViewer})
	now := time.Now()
	second, _, err := operators.NewToken(t.Context(), "eve", "ci", now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cookie, ends, err := operators.NewCookie(known(t, operators, second), now)
	if err != nil || ends.After(now.Add(time.Hour)) {
		t.Errorf("the cookie holds until %v, its token until %v: %v", ends, now.Add(time.Hour), err)
	}
	if op, ok := operators.Authenticate(second, now.Add(time.Hour-time.Second)); !ok || !op.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("shortly before its end: %+v, %v", op, ok)
	}
	if _, ok := operators.Authenticate(second, now.Add(time.Hour)); ok {
		t.Error("a token outlives its end")
	}

	third, a, err := operators.NewToken(t.Context(), "eve", "ci", time.Time{})
	if err != nil || len(a.Tokens) != 2 || a.Tokens[0].Name != "ci" || !a.Tokens[0].Expires.IsZero() {
		t.Fatalf("in place of the old: %+v, %v", a, err)
	}
	if _, ok := operators.Authenticate(second, now); ok {
		t.Error("the token that was replaced gets in")
	}
	if _, ok := operators.FromCookie(cookie, now); ok {
		t.Error("the cookie of the token that was replaced counts")
	}
	reopened := openOperators(t, kv, file)
	for _, token := range []string{first, third} {
		wantOperator(t, operators, token, auth.Operator{Name: "eve", Role: auth.RoleViewer})
		wantOperator(t, reopened, token, auth.Operator{Name: "eve", Role: auth.RoleViewer})
	}
	if _, err := operators.RemoveToken(t.Context(), "eve", "default"); err != nil {
		t.Fatal(err)
	}
	if _, ok := operators.Authenticate(first, now); ok {
		t.Error("a removed token gets in")
	}
	wantOperator(t, operators, third, auth.Operator{Name: "eve", Role: auth.RoleViewer})
	if _, err := operators.RemoveToken(t.Context(), "eve", "default"); !errors.Is(err, auth.ErrTokenNotFound) {
		t.Errorf("removing it twice: %v", err)
	}
	for n := range 15 {
		if _, _, err := operators.NewToken(t.Context(), "eve", fmt.Sprint("n", n), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := operators.NewToken(t.Context(), "eve", "more", time.Time{}); !isInvalid(err) {
		t.Errorf("a seventeenth token: %v", err)
	}
}

func TestTheLastAdministratorStays(t *testing.T) {
	operators := openOperators(t, openBucket(t), filepath.Join(t.TempDir(), "admin.token"))
	viewer, adminRole, off, hall := auth.RoleViewer, auth.RoleAdmin, false, auth.Scope{Tags: []string{"hall"}}
	refused := func(when string) {
		t.Helper()
		for what, change := range map[string]auth.OperatorChange{"demoted": {Role: &viewer}, "disabled": {Enabled: &off}, "narrowed": {Scope: &hall}} {
			if _, err := operators.Change(t.Context(), "admin", change); !errors.Is(err, auth.ErrLastAdmin) {
				t.Errorf("%s: %s: %v", when, what, err)
			}
		}
		if _, err := operators.RemoveToken(t.Context(), "admin", "default"); !errors.Is(err, auth.ErrLastAdmin) {
			t.Errorf("%s: without a token: %v", when, err)
		}
		if _, _, err := operators.NewToken(t.Context(), "admin", "default", time.Now().Add(time.Hour)); !errors.Is(err, auth.ErrLastAdmin) {
			t.Errorf("%s: with a token that ends: %v", when, err)
		}
		if err := operators.Remove(t.Context(), "admin"); !errors.Is(err, auth.ErrLastAdmin) {
			t.Errorf("%s: removed: %v", when, err)
		}
	}
	refused("alone")
	add(t, operators, auth.NewOperator{Name: "part", Role: adminRole, Scope: hall})
	add(t, operators, auth.NewOperator{Name: "soon", Role: adminRole, Expires: time.Now().Add(time.Hour)})
	add(t, operators, auth.NewOperator{Name: "eve", Role: viewer})
	refused("beside others who could not mend it")
	if _, err := operators.Change(t.Context(), "eve", auth.OperatorChange{Role: &adminRole}); err != nil {
		t.Fatal(err)
	}
	if err := operators.Remove(t.Context(), "admin"); err != nil {
		t.Errorf("with another administrator: %v", err)
	}
	if err := operators.Remove(t.Context(), "eve"); !errors.Is(err, auth.ErrLastAdmin) {
		t.Errorf("the last one now: %v", err)
	}
}

// The bucket of the release before has operators with one token and no scope.
func TestOperatorsOfTheLastReleaseGetIn(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	token, hash, err := auth.NewToken(auth.OperatorPrefix)
	if err != nil {
		t.Fatal(err)
	}
	old, err := json.Marshal(map[string]any{"name": "ada", "role": "admin", "token": hash, "created": time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "operator.ada", old); err != nil {
		t.Fatal(err)
	}
	operators := openOperators(t, kv, file)
	wantOperator(t, operators, token, auth.Operator{Name: "ada", Role: auth.RoleAdmin})
	if _, _, err := operators.NewToken(t.Context(), "ada", "ci", time.Time{}); err != nil {
		t.Fatal(err)
	}
	again := openOperators(t, kv, file)
	wantOperator(t, again, token, auth.Operator{Name: "ada", Role: auth.RoleAdmin})
	if a, _ := again.Get("ada"); len(a.Tokens) != 2 || a.Tokens[1].Name != auth.DefaultToken {
		t.Errorf("ada has %+v", a.Tokens)
	}
	if _, err := kv.Put(t.Context(), "operator.ada", []byte(`{"name":"ada","role":"admin","scope":{"tags":[]}}`)); err != nil {
		t.Fatal(err)
	}
	await(t, again, "what cannot be read lets nobody in", func() bool {
		_, ok := again.Authenticate(token, time.Now())
		return !ok
	})
}

func TestLastUsesSurviveARestartWithoutAWriteARequest(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	operators := openOperators(t, kv, file)
	if a, _ := operators.Get("admin"); !a.Tokens[0].LastUsed.IsZero() {
		t.Errorf("used before it was: %v", a.Tokens)
	}
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := status.Values()
	at := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	for range 1000 {
		operators.Authenticate(readToken(t, file), at)
	}
	if status, err = kv.Status(t.Context()); err != nil || status.Values() != before {
		t.Errorf("1000 requests cost %d writes: %v", status.Values()-before, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	operators.KeepUses(ended) // writes a last time
	if a, _ := openOperators(t, kv, file).Get("admin"); !a.Tokens[0].LastUsed.Equal(at) {
		t.Errorf("after a restart: %v, want %v", a.Tokens, at)
	}
}

func TestWhoHasTheMachineRecoversTheAdmin(t *testing.T) {
	kv, file := openBucket(t), filepath.Join(t.TempDir(), "admin.token")
	operators := openOperators(t, kv, file)
	lost := readToken(t, file)
	add(t, operators, auth.NewOperator{Name: "ada", Role: auth.RoleAdmin})
	for what, before := range map[string]func() error{
		"as it is": func() error { return nil },
		"disabled": func() error {
			off := false
			_, err := operators.Change(t.Context(), "admin", auth.OperatorChange{Enabled: &off})
			return err
		},
		"gone": func() error { return operators.Remove(t.Context(), "admin") },
	} {
		if err := before(); err != nil {
			t.Fatal(err)
		}
		if err := operators.Recover(t.Context(), file); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		token := readToken(t, file)
		wantOperator(t, operators, token, admin)
		if _, ok := operators.Authenticate(lost, time.Now()); ok {
			t.Errorf("%s: the token from before gets in", what)
		}
		lost = token
	}
	wantOperator(t, openOperators(t, kv, file), lost, admin)
}
