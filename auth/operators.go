package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	firstAdmin = "admin"
	// DefaultToken is the name of an operator's token that was given none.
	DefaultToken = "default"

	maxOperatorName = 64
	maxOperators    = 1000
	maxTokens       = 16 // of one operator
)

// Errors of changing operators.
var (
	ErrOperatorExists   = errors.New("an operator of this name exists")
	ErrOperatorNotFound = errors.New("no operator of this name")
	ErrTokenNotFound    = errors.New("the operator has no token of this name")
	ErrLastAdmin        = errors.New("nobody would be left to administer the hub: there must be an enabled administrator of all devices with a token that does not expire")
)

// InvalidOperatorError says which member of an operator is wrong, and how.
type InvalidOperatorError struct{ Field, Message string }

// Error says the field and the message.
func (e *InvalidOperatorError) Error() string { return e.Field + ": " + e.Message }

// Operator is a person or a program that uses the hub's API, as its token or cookie proved.
type Operator struct {
	Name  string
	Role  Role
	Scope Scope
	Until time.Time // the proof holds until then; zero: until it is revoked

	token Hash // that was shown, or that the cookie was made with
}

// Account is an operator as administrators see it.
type Account struct {
	Name    string
	Role    Role
	Scope   Scope
	Enabled bool
	Created time.Time
	Tokens  []Token // by name
}

// Token is what may be shown of an operator's token.
type Token struct {
	Name     string
	Created  time.Time
	Expires  time.Time // zero: never
	LastUsed time.Time // zero: never, as far as is known
}

// Operators knows who may use the API: a mirror in memory of a bucket. Every change is in the bucket before it is in the
// mirror, and changes of other hubs arrive by a watch. Its methods may be called from any goroutine.
type Operators struct {
	kv        jetstream.KeyValue
	watcher   jetstream.KeyWatcher
	done      chan struct{} // closed when the watch has ended
	cookieKey []byte        // fixed after construction

	changing sync.Mutex // held while an operator is changed, so that no two changes each leave the other's administrator

	mu      sync.RWMutex
	byName  map[string]operatorEntry
	byHash  map[Hash]*credential
	deleted map[string]uint64 // revision of operators deleted here, as the watch may yet bring what was before
	changed chan struct{}     // closed at the next change
	uses    map[string]int64  // as the bucket has them: name/token -> Unix ms of the last
}

// operatorEntry is an operator and where the bucket has it.
type operatorEntry struct {
	record   operatorRecord
	revision uint64
}

// credential is a token that is known by its hash.
type credential struct {
	operator string
	token    tokenRecord
	used     atomic.Int64 // Unix ms; 0: never
}

// OpenOperators reads the operators of a bucket and follows it until Close. A bucket without any gets the operator
// "admin", whose token is written to tokenFile (mode 0600); the bucket keeps only its hash. The file may be deleted once
// the token is stored elsewhere.
func OpenOperators(ctx context.Context, kv jetstream.KeyValue, tokenFile string) (*Operators, error) {
	o := &Operators{
		kv: kv, done: make(chan struct{}), byName: map[string]operatorEntry{}, byHash: map[Hash]*credential{},
		deleted: map[string]uint64{}, changed: make(chan struct{}), uses: map[string]int64{},
	}
	if err := o.follow(ctx); err != nil {
		return nil, fmt.Errorf("open operators: %w", err)
	}
	if err := o.complete(ctx, tokenFile); err != nil {
		return nil, errors.Join(fmt.Errorf("open operators: %w", err), o.Close())
	}
	return o, nil
}

// complete makes what a new bucket lacks.
func (o *Operators) complete(ctx context.Context, tokenFile string) (err error) {
	if len(o.List()) == 0 {
		if err := o.makeFirstAdmin(ctx, tokenFile); err != nil {
			return fmt.Errorf("make the first admin: %w", err)
		}
	}
	o.cookieKey, err = loadCookieKey(ctx, o.kv)
	return err
}

// makeFirstAdmin writes the file before the bucket: after a crash between the two the bucket is still empty and the next
// start makes another token. The other way round nobody would ever know the token.
func (o *Operators) makeFirstAdmin(ctx context.Context, tokenFile string) error {
	token, hash, err := NewToken(OperatorPrefix)
	if err != nil {
		return err
	}
	if err := writeFileAtomic(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	now := time.Now().UTC()
	err = o.put(ctx, operatorRecord{Name: firstAdmin, Role: RoleAdmin, Created: now, Tokens: []tokenRecord{{Name: DefaultToken, Hash: hash, Created: now}}}, 0)
	if errors.Is(err, ErrOperatorExists) {
		// Another hub on the same bucket was first; its file bears the valid token, ours does not.
		if err := os.Remove(tokenFile); err != nil {
			return fmt.Errorf("remove the unused token: %w", err)
		}
		return o.refresh(ctx, firstAdmin)
	}
	return err
}

// Authenticate finds the operator that a token belongs to. One that is disabled, and a token that has expired, are as if
// they were not.
func (o *Operators) Authenticate(token string, now time.Time) (Operator, bool) {
	hash := HashToken(token)
	o.mu.RLock()
	defer o.mu.RUnlock()
	// A map lookup by hash is not constant in time, but what it leaks is about the hash, from which the token cannot be
	// found.
	c, ok := o.byHash[hash]
	if !ok || hash.IsZero() {
		return Operator{}, false
	}
	return o.admit(c, now)
}

// admit returns whom a credential stands for, if it still does. It needs mu.
func (o *Operators) admit(c *credential, now time.Time) (Operator, bool) {
	record := o.byName[c.operator].record
	if record.Disabled || c.token.expired(now) {
		return Operator{}, false
	}
	c.used.Store(now.UnixMilli())
	return Operator{Name: record.Name, Role: record.Role, Scope: record.scope(), Until: c.token.Expires, token: c.token.Hash}, true
}

// Changes returns a channel that is closed at the next change of any operator, from whatever hub. Who holds on to an
// Operator asks for it first and then authenticates again each time.
func (o *Operators) Changes() <-chan struct{} {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.changed
}

// List returns all operators, sorted by name.
func (o *Operators) List() []Account {
	o.mu.RLock()
	defer o.mu.RUnlock()
	list := make([]Account, 0, len(o.byName))
	for _, e := range o.byName {
		list = append(list, o.account(e.record))
	}
	slices.SortFunc(list, func(a, b Account) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Get returns one operator.
func (o *Operators) Get(name string) (Account, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	e, ok := o.byName[name]
	return o.account(e.record), ok
}

// account needs mu.
func (o *Operators) account(r operatorRecord) Account {
	a := Account{Name: r.Name, Role: r.Role, Scope: r.scope(), Enabled: !r.Disabled, Created: r.Created, Tokens: make([]Token, len(r.Tokens))}
	for i, t := range r.Tokens {
		a.Tokens[i] = Token{Name: t.Name, Created: t.Created, Expires: t.Expires}
		if c := o.byHash[t.Hash]; c != nil && c.used.Load() > 0 {
			a.Tokens[i].LastUsed = time.UnixMilli(c.used.Load()).UTC()
		}
	}
	slices.SortFunc(a.Tokens, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return a
}

// checkOperatorName accepts what can be one token of a bucket's key.
func checkOperatorName(field, name string) error {
	if name == "" || len(name) > maxOperatorName {
		return &InvalidOperatorError{Field: field, Message: fmt.Sprintf("%d characters; must have 1 to %d", len(name), maxOperatorName)}
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && c != '-' && c != '_' {
			return &InvalidOperatorError{Field: field, Message: fmt.Sprintf("%q: may hold only letters, digits, - and _", name)}
		}
	}
	return nil
}
