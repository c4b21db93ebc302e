package auth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// NewOperator is an operator that is to be made, and its first token.
type NewOperator struct {
	Name    string
	Role    Role
	Scope   Scope
	Token   string    // its name; DefaultToken if empty
	Expires time.Time // of the token; zero: never
}

// OperatorChange is what is to become of an operator; what is nil stays.
type OperatorChange struct {
	Role    *Role
	Scope   *Scope
	Enabled *bool
}

// Add makes an operator and returns its token, which is not kept and cannot be shown again. Errors:
// *InvalidOperatorError, ErrOperatorExists.
func (o *Operators) Add(ctx context.Context, n NewOperator) (made Account, token string, err error) {
	record := operatorRecord{Name: n.Name, Role: n.Role, Created: time.Now().UTC()}
	if err := record.narrow(n.Role, n.Scope); err != nil {
		return Account{}, "", err
	}
	if err := checkOperatorName("name", n.Name); err != nil {
		return Account{}, "", err
	}
	if token, err = record.addToken(n.Token, n.Expires); err != nil {
		return Account{}, "", err
	}
	o.changing.Lock()
	defer o.changing.Unlock()
	if have := len(o.List()); have >= maxOperators {
		return Account{}, "", &InvalidOperatorError{Field: "name", Message: fmt.Sprintf("there are %d operators, as many as allowed", have)}
	}
	if err := o.put(ctx, record, 0); err != nil {
		return Account{}, "", fmt.Errorf("add an operator: %w", err)
	}
	made, _ = o.Get(n.Name)
	return made, token, nil
}

// Change changes an operator's role, scope or whether it is enabled. It counts at once, also for its cookies and live
// streams. Errors: *InvalidOperatorError, ErrOperatorNotFound, ErrLastAdmin.
func (o *Operators) Change(ctx context.Context, name string, change OperatorChange) (Account, error) {
	return o.update(ctx, name, func(r *operatorRecord) error {
		role, scope := r.Role, r.scope()
		if change.Role != nil {
			role = *change.Role
		}
		if change.Scope != nil {
			scope = *change.Scope
		}
		if change.Enabled != nil {
			r.Disabled = !*change.Enabled
		}
		return r.narrow(role, scope)
	})
}

// NewToken gives an operator one more token, or a new one in place of that of the same name, which is void at once with
// all cookies made from it. Errors: *InvalidOperatorError, ErrOperatorNotFound, ErrLastAdmin.
func (o *Operators) NewToken(ctx context.Context, operator, name string, expires time.Time) (token string, a Account, err error) {
	a, err = o.update(ctx, operator, func(r *operatorRecord) error {
		token, err = r.addToken(name, expires)
		return err
	})
	return token, a, err
}

// RemoveToken ends one of an operator's tokens and all cookies made from it, at once. Errors: ErrOperatorNotFound,
// ErrTokenNotFound, ErrLastAdmin.
func (o *Operators) RemoveToken(ctx context.Context, operator, name string) (Account, error) {
	return o.update(ctx, operator, func(r *operatorRecord) error {
		before := len(r.Tokens)
		r.Tokens = slices.DeleteFunc(r.Tokens, func(t tokenRecord) bool { return t.Name == name })
		if len(r.Tokens) == before {
			return ErrTokenNotFound
		}
		return nil
	})
}

// Remove ends an operator's tokens and all cookies made from them, at once. Errors: ErrOperatorNotFound, ErrLastAdmin.
func (o *Operators) Remove(ctx context.Context, name string) error {
	o.changing.Lock()
	defer o.changing.Unlock()
	o.mu.RLock()
	e, ok := o.byName[name]
	o.mu.RUnlock()
	if !ok {
		return fmt.Errorf("remove operator %q: %w", name, ErrOperatorNotFound)
	}
	if e.record.administers() && !o.administered(name) {
		return ErrLastAdmin
	}
	if err := o.kv.Delete(ctx, operatorKeyPrefix+name); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("remove operator %q: %w", name, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now, ok := o.byName[name]; ok && now.revision == e.revision {
		o.deleted[name] = e.revision // the watch may yet bring what was before
		o.drop(now.record)
	}
	return nil
}

// Recover makes the operator "admin" an enabled administrator of all devices, made anew if it is gone, and writes a new
// token of it to tokenFile (mode 0600), in place of its token "default". It is for whoever has the hub's machine and no
// administrator's token.
func (o *Operators) Recover(ctx context.Context, tokenFile string) error {
	token, hash, err := NewToken(OperatorPrefix)
	if err != nil {
		return fmt.Errorf("recover the admin: %w", err)
	}
	if err := writeFileAtomic(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		return fmt.Errorf("recover the admin: %w", err)
	}
	o.changing.Lock()
	defer o.changing.Unlock()
	o.mu.RLock()
	e, now := o.byName[firstAdmin], time.Now().UTC()
	o.mu.RUnlock()
	record := e.record
	if record.Name == "" {
		record = operatorRecord{Name: firstAdmin, Created: now}
	}
	record.Role, record.Scope, record.Disabled = RoleAdmin, nil, false
	record.Tokens = slices.DeleteFunc(slices.Clone(record.Tokens), func(t tokenRecord) bool { return t.Name == DefaultToken })
	record.Tokens = append(record.Tokens, tokenRecord{Name: DefaultToken, Hash: hash, Created: now})
	if err := o.put(ctx, record, e.revision); err != nil {
		return fmt.Errorf("recover the admin: %w", err)
	}
	return nil
}

// narrow sets role and scope.
func (r *operatorRecord) narrow(role Role, scope Scope) error {
	if err := CheckRole(role); err != nil {
		return &InvalidOperatorError{Field: "role", Message: err.Error()}
	}
	scope, err := scope.normal()
	if err != nil {
		return err
	}
	r.Role, r.Scope = role, nil
	if !scope.All() {
		r.Scope = &scope
	}
	return nil
}

// addToken makes a token and returns it. Tokens that have expired make room.
func (r *operatorRecord) addToken(name string, expires time.Time) (token string, err error) {
	if name == "" {
		name = DefaultToken
	}
	if err := checkOperatorName("token_name", name); err != nil {
		return "", err
	}
	now := time.Now().UTC()
	fresh := tokenRecord{Name: name, Created: now, Expires: expires.UTC()}
	if fresh.expired(now) {
		return "", &InvalidOperatorError{Field: "expires", Message: "it is in the past"}
	}
	if token, fresh.Hash, err = NewToken(OperatorPrefix); err != nil {
		return "", err
	}
	tokens := slices.DeleteFunc(slices.Clone(r.Tokens), func(t tokenRecord) bool { return t.Name == name })
	if len(tokens) >= maxTokens {
		tokens = slices.DeleteFunc(tokens, func(t tokenRecord) bool { return t.expired(now) })
	}
	if len(tokens) >= maxTokens {
		return "", &InvalidOperatorError{Field: "token_name", Message: fmt.Sprintf("the operator has %d tokens, as many as allowed; remove one", len(tokens))}
	}
	r.Tokens = append(tokens, fresh)
	return token, nil
}

// updateTries bounds how often a change is made again because another hub's came first.
const updateTries = 8

// update changes an operator as it is in the bucket.
func (o *Operators) update(ctx context.Context, name string, change func(*operatorRecord) error) (Account, error) {
	o.changing.Lock()
	defer o.changing.Unlock()
	for try := range updateTries {
		o.mu.RLock()
		e, ok := o.byName[name]
		o.mu.RUnlock()
		if !ok {
			return Account{}, fmt.Errorf("operator %q: %w", name, ErrOperatorNotFound)
		}
		record := e.record
		record.Tokens = slices.Clone(record.Tokens)
		if err := change(&record); err != nil {
			return Account{}, err
		}
		if e.record.administers() && !record.administers() && !o.administered(name) {
			return Account{}, ErrLastAdmin
		}
		err := o.put(ctx, record, e.revision)
		if err == nil {
			a, _ := o.Get(name)
			return a, nil
		}
		if !errors.Is(err, ErrOperatorExists) { // not at that revision any more
			return Account{}, err
		}
		select { // with jitter, so that two that change it at once do not do so again and again
		case <-time.After(rand.N(time.Millisecond << try)):
		case <-ctx.Done():
			return Account{}, fmt.Errorf("change operator %q: %w", name, ctx.Err())
		}
		if err := o.refresh(ctx, name); err != nil {
			return Account{}, err
		}
	}
	return Account{}, fmt.Errorf("operator %q was changed by others %d times meanwhile", name, updateTries)
}

// administered reports whether anyone but this operator administers the hub.
func (o *Operators) administered(except string) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for name, e := range o.byName {
		if name != except && e.record.administers() {
			return true
		}
	}
	return false
}

// record returns what is known of an operator by name.
func (o *Operators) record(name string) (operatorRecord, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	e, ok := o.byName[name]
	return e.record, ok
}
