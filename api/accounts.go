package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/auth"
)

// Accounts are the operators, for those who administer them; auth.Operators is one.
type Accounts interface {
	List() []auth.Account // by name
	Get(name string) (auth.Account, bool)
	Add(ctx context.Context, n auth.NewOperator) (made auth.Account, token string, err error)
	Change(ctx context.Context, name string, change auth.OperatorChange) (auth.Account, error)
	Remove(ctx context.Context, name string) error
	NewToken(ctx context.Context, operator, name string, expires time.Time) (token string, a auth.Account, err error)
	RemoveToken(ctx context.Context, operator, name string) (auth.Account, error)
}

// Bounds of how long an operator's token may hold.
const (
	leastTokenLife = time.Minute
	mostTokenLife  = 10 * 366 * 24 * time.Hour
)

// OperatorScope is which devices an operator sees and commands.
type OperatorScope struct {
	Tags []string `json:"tags" minItems:"1" maxItems:"64" nullable:"false" doc:"Devices with one of these"`
}

// Operator is a person or a program that uses the API, as administrators see it.
type Operator struct {
	Name    string          `json:"name"`
	Role    auth.Role       `json:"role" enum:"viewer,operator,admin"`
	Scope   *OperatorScope  `json:"scope,omitempty" doc:"Left out: all devices"`
	Enabled bool            `json:"enabled"`
	Created time.Time       `json:"created"`
	Tokens  []OperatorToken `json:"tokens" nullable:"false" doc:"By name"`
}

// OperatorToken is what may be shown of a token.
type OperatorToken struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero" doc:"Left out: never"`
	Expired  bool      `json:"expired,omitempty"`
	LastUsed time.Time `json:"last_used,omitzero" doc:"Also by a login made with it. Written once a minute, so that a crash may set it back"`
}

// NamedToken is a token at the one time when it is shown.
type NamedToken struct {
	Name    string    `json:"name"`
	Token   string    `json:"token" doc:"Shown this once; the hub keeps only its hash"`
	Expires time.Time `json:"expires,omitzero"`
}

func scopeView(s auth.Scope) *OperatorScope {
	if s.All() {
		return nil
	}
	return &OperatorScope{Tags: s.Tags}
}

func (s *Server) operatorView(a auth.Account) Operator {
	v := Operator{Name: a.Name, Role: a.Role, Scope: scopeView(a.Scope), Enabled: a.Enabled, Created: a.Created, Tokens: make([]OperatorToken, len(a.Tokens))}
	now := s.cfg.Now()
	for i, t := range a.Tokens {
		v.Tokens[i] = OperatorToken{Name: t.Name, Created: t.Created, Expires: t.Expires, Expired: !t.Expires.IsZero() && !now.Before(t.Expires), LastUsed: t.LastUsed}
	}
	return v
}

// OperatorPath is the part of a path that names an operator.
type OperatorPath struct {
	ID string `path:"id" maxLength:"64" doc:"The operator's name"`
}

type operatorsOutput struct {
	Body struct {
		Operators []Operator `json:"operators" nullable:"false" doc:"By name"`
	}
}

type operatorOutput struct{ Body Operator }

type newOperatorInput struct {
	Body struct {
		Name      string         `json:"name" minLength:"1" maxLength:"64" doc:"Letters, digits, - and _"`
		Role      auth.Role      `json:"role" enum:"viewer,operator,admin"`
		Scope     *OperatorScope `json:"scope,omitempty" doc:"Left out or null: all devices"`
		TokenName string         `json:"token_name,omitempty" maxLength:"64" doc:"default when left out"`
		ExpiresIn string         `json:"expires_in,omitempty" doc:"How long the token holds, such as 90d; for ever when left out"`
	}
}

type newOperatorOutput struct {
	Location string `header:"Location"`
	Body     struct {
		Token string `json:"token" doc:"Shown this once; the hub keeps only its hash"`
		Operator
	}
}

type changeOperatorInput struct {
	OperatorPath
	Body struct {
		Role    *auth.Role  `json:"role,omitempty" enum:"viewer,operator,admin"`
		Scope   scopeChange `json:"scope" required:"false" doc:"null: all devices"`
		Enabled *bool       `json:"enabled,omitempty"`
	}
}

// scopeChange is a scope, null for all devices, or nothing where it was left out.
type scopeChange struct{ to *auth.Scope }

// UnmarshalJSON implements json.Unmarshaler; it is called for null too.
func (c *scopeChange) UnmarshalJSON(text []byte) error {
	c.to = &auth.Scope{}
	return json.Unmarshal(text, c.to)
}

// Schema implements huma.SchemaProvider.
func (scopeChange) Schema(huma.Registry) *huma.Schema {
	least, most := 1, 64
	tags := &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}, MinItems: &least, MaxItems: &most}
	schema := &huma.Schema{
		Type: huma.TypeObject, Nullable: true, Properties: map[string]*huma.Schema{"tags": tags}, Required: []string{"tags"}, AdditionalProperties: false,
		Description: "Devices with one of these tags; null: all devices",
	}
	tags.Items.PrecomputeMessages()
	tags.PrecomputeMessages()
	schema.PrecomputeMessages()
	return schema
}

type newOperatorTokenInput struct {
	OperatorPath
	Body struct {
		Name      string `json:"name,omitempty" maxLength:"64" doc:"default when left out. A token of this name is replaced: it is void at once"`
		ExpiresIn string `json:"expires_in,omitempty" doc:"How long it holds, such as 90d; for ever when left out"`
	}
}

type newOperatorTokenOutput struct{ Body NamedToken }

type revokeOperatorTokenInput struct {
	OperatorPath
	Token string `path:"token" maxLength:"64" doc:"The token's name"`
}

func (s *Server) registerAccounts() {
	const path = "/api/v1/operators"
	tags := []string{"operators"}
	register(s, admin, huma.Operation{
		OperationID: "list-operators", Method: http.MethodGet, Path: path, Tags: tags, Summary: "Who may use the API",
	}, func(context.Context, *struct{}) (*operatorsOutput, error) {
		out := &operatorsOutput{}
		out.Body.Operators = []Operator{}
		for _, a := range s.deps.Accounts.List() {
			out.Body.Operators = append(out.Body.Operators, s.operatorView(a))
		}
		return out, nil
	})
	register(s, admin, huma.Operation{
		OperationID: "create-operator", Method: http.MethodPost, Path: path, Tags: tags, DefaultStatus: http.StatusCreated, Summary: "Add an operator",
		Description: "A person or a program. With a scope it sees and commands only devices with one of these tags; others are to it as if they were not. The token is shown this once.",
	}, s.createOperator)
	register(s, admin, huma.Operation{
		OperationID: "get-operator", Method: http.MethodGet, Path: path + "/{id}", Tags: tags, Summary: "One operator",
	}, func(_ context.Context, in *OperatorPath) (*operatorOutput, error) {
		a, ok := s.deps.Accounts.Get(in.ID)
		if !ok {
			return nil, operatorProblem(auth.ErrOperatorNotFound)
		}
		return &operatorOutput{Body: s.operatorView(a)}, nil
	})
	register(s, admin, huma.Operation{
		OperationID: "change-operator", Method: http.MethodPatch, Path: path + "/{id}", Tags: tags, Summary: "Change an operator's role or scope, or disable it",
		Description: "Members that are left out stay. It counts at once: for the next request by token or cookie, and open live streams end. 409 last_admin where nobody would be left to administer the hub.",
	}, s.changeOperator)
	register(s, admin, huma.Operation{
		OperationID: "delete-operator", Method: http.MethodDelete, Path: path + "/{id}", Tags: tags, DefaultStatus: http.StatusNoContent, Summary: "Remove an operator",
		Description: "Its tokens and logins are void at once, and its live streams end. 409 last_admin where nobody would be left to administer the hub.",
	}, func(ctx context.Context, in *OperatorPath) (*struct{}, error) {
		if err := s.deps.Accounts.Remove(ctx, in.ID); err != nil {
			return nil, operatorProblem(err)
		}
		s.logOperator(ctx, "removed", in.ID)
		return nil, nil //nolint:nilnil // huma's way to say 204 without a body
	})
	register(s, admin, huma.Operation{
		OperationID: "new-operator-token", Method: http.MethodPost, Path: path + "/{id}/token", Tags: tags, DefaultStatus: http.StatusCreated, Summary: "Give an operator a token",
		Description: "One more, or a new one in place of that of the same name, which is void at once with the logins made from it. The token is shown this once. At most 16 an operator.",
	}, s.newOperatorToken)
	register(s, admin, huma.Operation{
		OperationID: "revoke-operator-token", Method: http.MethodDelete, Path: path + "/{id}/tokens/{token}", Tags: tags, Summary: "End one of an operator's tokens",
		Description: "It is void at once with the logins made from it. 409 last_admin where nobody would be left to administer the hub.",
	}, func(ctx context.Context, in *revokeOperatorTokenInput) (*operatorOutput, error) {
		note(ctx, "token_name", in.Token)
		a, err := s.deps.Accounts.RemoveToken(ctx, in.ID, in.Token)
		if err != nil {
			return nil, operatorProblem(err)
		}
		s.logOperator(ctx, "token revoked", in.ID)
		return &operatorOutput{Body: s.operatorView(a)}, nil
	})
}

func (s *Server) createOperator(ctx context.Context, in *newOperatorInput) (*newOperatorOutput, error) {
	noteTarget(ctx, in.Body.Name)
	note(ctx, "role", in.Body.Role)
	n := auth.NewOperator{Name: in.Body.Name, Role: in.Body.Role, Token: in.Body.TokenName}
	if in.Body.Scope != nil {
		n.Scope.Tags = in.Body.Scope.Tags
		note(ctx, "scope", n.Scope.Tags)
	}
	var err error
	if n.Expires, err = s.expiry(ctx, in.Body.ExpiresIn); err != nil {
		return nil, err
	}
	a, token, err := s.deps.Accounts.Add(ctx, n)
	if err != nil {
		return nil, operatorProblem(err)
	}
	s.logOperator(ctx, "added", a.Name)
	out := &newOperatorOutput{Location: "/api/v1/operators/" + a.Name}
	out.Body.Token, out.Body.Operator = token, s.operatorView(a)
	return out, nil
}

func (s *Server) changeOperator(ctx context.Context, in *changeOperatorInput) (*operatorOutput, error) {
	change := auth.OperatorChange{Role: in.Body.Role, Scope: in.Body.Scope.to, Enabled: in.Body.Enabled}
	if change.Role != nil {
		note(ctx, "role", *change.Role)
	}
	if change.Scope != nil {
		note(ctx, "scope", change.Scope.Tags)
	}
	if change.Enabled != nil {
		note(ctx, "enabled", *change.Enabled)
	}
	a, err := s.deps.Accounts.Change(ctx, in.ID, change)
	if err != nil {
		return nil, operatorProblem(err)
	}
	s.logOperator(ctx, "edited", in.ID)
	return &operatorOutput{Body: s.operatorView(a)}, nil
}

func (s *Server) newOperatorToken(ctx context.Context, in *newOperatorTokenInput) (*newOperatorTokenOutput, error) {
	name := cmp.Or(in.Body.Name, auth.DefaultToken)
	note(ctx, "token_name", name)
	expires, err := s.expiry(ctx, in.Body.ExpiresIn)
	if err != nil {
		return nil, err
	}
	token, _, err := s.deps.Accounts.NewToken(ctx, in.ID, name, expires)
	if err != nil {
		return nil, operatorProblem(err)
	}
	s.logOperator(ctx, "token made", in.ID)
	return &newOperatorTokenOutput{Body: NamedToken{Name: name, Token: token, Expires: expires}}, nil
}

// expiry is the end of a token that is to hold so long; zero: it has none.
func (s *Server) expiry(ctx context.Context, in string) (time.Time, error) {
	life, err := parseDuration("body.expires_in", in, leastTokenLife, mostTokenLife)
	if err != nil || life == 0 {
		return time.Time{}, err
	}
	expires := s.cfg.Now().UTC().Add(life).Truncate(time.Second)
	note(ctx, "expires", expires)
	return expires, nil
}

// logOperator leaves a trace of who changed whom.
func (s *Server) logOperator(ctx context.Context, change, name string) {
	s.log.InfoContext(ctx, "operator changed", "change", change, "name", name, "operator", exchangeOf(ctx).operator.Name)
}

// operatorProblem gives the errors of accounts their outside form; others are left to problem.
func operatorProblem(err error) error {
	invalid, isInvalid := errors.AsType[*auth.InvalidOperatorError](err)
	switch {
	case isInvalid:
		return newProblem(http.StatusUnprocessableEntity, "invalid", "%v", invalid).at("body."+invalid.Field, nil)
	case errors.Is(err, auth.ErrOperatorNotFound):
		return newProblem(http.StatusNotFound, "operator_not_found", "no operator has this name")
	case errors.Is(err, auth.ErrTokenNotFound):
		return newProblem(http.StatusNotFound, "token_not_found", "%v", auth.ErrTokenNotFound)
	case errors.Is(err, auth.ErrOperatorExists):
		return newProblem(http.StatusConflict, "operator_exists", "%v", auth.ErrOperatorExists)
	case errors.Is(err, auth.ErrLastAdmin):
		return newProblem(http.StatusConflict, "last_admin", "%v", auth.ErrLastAdmin)
	}
	return err
}
