package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Keys of the bucket. A name cannot hold a dot, so that each operator is one key under the prefix.
const (
	operatorKeyPrefix = "operator."
	cookieKeyName     = "cookie-key"
	firstAdmin        = "admin"
	maxOperatorName   = 64
)

// Errors of changing operators.
var (
	ErrOperatorExists   = errors.New("an operator of this name exists")
	ErrOperatorNotFound = errors.New("no operator of this name")
)

// Operator is a person or a program that uses the hub's API.
type Operator struct {
	Name string
	Role Role
}

// operatorRecord is an operator as the bucket keeps it.
type operatorRecord struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Token   Hash      `json:"token"`
	Created time.Time `json:"created"`
}

// Operators knows who may use the API. Its methods may be called from any goroutine.
type Operators struct {
	kv        jetstream.KeyValue
	cookieKey []byte // fixed after construction

	mu     sync.RWMutex
	byName map[string]operatorRecord
	byHash map[Hash]string // hash of the token -> name
}

// OpenOperators reads the operators of a bucket. A bucket without any gets the operator "admin", whose token is written to
// tokenFile (mode 0600); the bucket keeps only its hash. The file may be deleted once the token is stored elsewhere.
func OpenOperators(ctx context.Context, kv jetstream.KeyValue, tokenFile string) (*Operators, error) {
	o := &Operators{kv: kv, byName: map[string]operatorRecord{}, byHash: map[Hash]string{}}
	if err := o.load(ctx); err != nil {
		return nil, fmt.Errorf("open operators: %w", err)
	}
	if len(o.byName) == 0 {
		if err := o.makeFirstAdmin(ctx, tokenFile); err != nil {
			return nil, fmt.Errorf("open operators: make the first admin: %w", err)
		}
	}
	key, err := loadCookieKey(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("open operators: %w", err)
	}
	o.cookieKey = key
	return o, nil
}

// load reads every operator of the bucket into memory.
func (o *Operators) load(ctx context.Context) error {
	keys, err := o.kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return fmt.Errorf("list keys: %w", err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, operatorKeyPrefix) {
			continue
		}
		entry, err := o.kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // removed by another hub since the list was made
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		var record operatorRecord
		if err := json.Unmarshal(entry.Value(), &record); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		o.keep(record)
	}
	return nil
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
	err = o.create(ctx, operatorRecord{Name: firstAdmin, Role: RoleAdmin, Token: hash, Created: time.Now().UTC()})
	if errors.Is(err, ErrOperatorExists) {
		// Another hub on the same bucket was first; its file bears the valid token, ours does not.
		if err := os.Remove(tokenFile); err != nil {
			return fmt.Errorf("remove the unused token: %w", err)
		}
		return o.load(ctx)
	}
	return err
}

// Authenticate finds the operator a token belongs to.
func (o *Operators) Authenticate(token string) (Operator, bool) {
	hash := HashToken(token)
	o.mu.RLock()
	defer o.mu.RUnlock()
	// A map lookup by hash is not constant in time, but what it leaks is about the hash, from which the token cannot be
	// found.
	record, ok := o.byName[o.byHash[hash]]
	if !ok {
		return Operator{}, false
	}
	return Operator{Name: record.Name, Role: record.Role}, true
}

// List returns all operators, sorted by name.
func (o *Operators) List() []Operator {
	o.mu.RLock()
	defer o.mu.RUnlock()
	list := make([]Operator, 0, len(o.byName))
	for _, record := range o.byName {
		list = append(list, Operator{Name: record.Name, Role: record.Role})
	}
	slices.SortFunc(list, func(a, b Operator) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Add makes an operator and returns the token, which is not kept and cannot be shown again.
func (o *Operators) Add(ctx context.Context, op Operator) (token string, err error) {
	if err := checkOperatorName(op.Name); err != nil {
		return "", fmt.Errorf("add an operator: %w", err)
	}
	if err := CheckRole(op.Role); err != nil {
		return "", fmt.Errorf("add an operator: %w", err)
	}
	token, hash, err := NewToken(OperatorPrefix)
	if err != nil {
		return "", fmt.Errorf("add an operator: %w", err)
	}
	record := operatorRecord{Name: op.Name, Role: op.Role, Token: hash, Created: time.Now().UTC()}
	if err := o.create(ctx, record); err != nil {
		return "", fmt.Errorf("add an operator: %w", err)
	}
	return token, nil
}

// Remove ends an operator's token and all cookies made from it, at once.
func (o *Operators) Remove(ctx context.Context, name string) error {
	o.mu.RLock()
	_, ok := o.byName[name]
	o.mu.RUnlock()
	if !ok {
		return fmt.Errorf("remove operator %q: %w", name, ErrOperatorNotFound)
	}
	if err := o.kv.Delete(ctx, operatorKeyPrefix+name); err != nil {
		return fmt.Errorf("remove operator %q: %w", name, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byHash, o.byName[name].Token)
	delete(o.byName, name)
	return nil
}

// create stores a new record in the bucket and then in memory.
func (o *Operators) create(ctx context.Context, record operatorRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if _, err := o.kv.Create(ctx, operatorKeyPrefix+record.Name, value); err != nil {
		if errors.Is(err, jetstream.ErrKeyExists) {
			return ErrOperatorExists
		}
		return fmt.Errorf("store operator %q: %w", record.Name, err)
	}
	o.keep(record)
	return nil
}

func (o *Operators) keep(record operatorRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byName[record.Name] = record
	o.byHash[record.Token] = record.Name
}

// record returns what is known of an operator by name.
func (o *Operators) record(name string) (operatorRecord, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	record, ok := o.byName[name]
	return record, ok
}

// checkOperatorName accepts what can be one token of a bucket's key.
func checkOperatorName(name string) error {
	if name == "" || len(name) > maxOperatorName {
		return fmt.Errorf("name of %d characters: must have 1 to %d", len(name), maxOperatorName)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && c != '-' && c != '_' {
			return fmt.Errorf("name %q: may hold only letters, digits, - and _", name)
		}
	}
	return nil
}
