package api

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"telemetryhub/auth"
)

// access is who may call an operation: a role of operators, or one of the words below.
type access string

const (
	viewer   = access(auth.RoleViewer)
	operator = access(auth.RoleOperator)
	admin    = access(auth.RoleAdmin)

	device    access = "device"        // a device, by its own credentials: the handler looks
	enrolling access = "enrolment key" // whoever has an enrolment key: likewise
	open      access = "open"          // anyone
)

const maxBody = 64 << 10 // bytes of a body, where an operation does not say otherwise

func (a access) security() []map[string][]string {
	switch a {
	case open:
		return []map[string][]string{}
	case enrolling:
		return []map[string][]string{{"bearer": {}}}
	case device:
		return []map[string][]string{{"bearer": {}}, {"basic": {}}}
	}
	return []map[string][]string{{"bearer": {}}, {"cookie": {}}}
}

// authorize lets a request through whose caller has the operation's role, and before its body is read.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	role, _ := ctx.Operation().Metadata["role"].(access)
	if role == device || role == enrolling {
		next(ctx)
		return
	}
	// Without an Authorization header a browser may be speaking for a page that is not ours, with our cookie, or to log
	// its user in as somebody else.
	if p := s.checkOrigin(r, role); p != nil {
		p.write(w)
		return
	}
	if role == open {
		next(ctx)
		return
	}
	op, p := s.admit(r)
	if p == nil && !op.Role.Allows(auth.Role(role)) {
		p = newProblem(http.StatusForbidden, "role", "this needs the role %s; %s is %s", role, op.Name, op.Role)
	}
	if p == nil {
		p = s.keepToScope(ctx, op)
	}
	if p != nil {
		s.noteForbidden(exchangeOf(ctx.Context()), ctx.Operation(), op, p)
		p.write(w)
		return
	}
	exchangeOf(ctx.Context()).operator = op
	next(ctx)
}

// admit says who the caller is, and counts a token that is wrong. A right one is let in whatever came from its address.
func (s *Server) admit(r *http.Request) (auth.Operator, *Problem) {
	op, p := s.authenticate(r)
	if p == nil || p.Reason != "bad_token" {
		return op, p
	}
	s.metrics.logins.Inc()
	if wait := s.logins.fail(r.RemoteAddr, s.cfg.Now()); wait > 0 {
		return op, tooManyLogins(wait)
	}
	return op, p
}

// authenticate says who the caller is. A bearer token counts before the cookie.
func (s *Server) authenticate(r *http.Request) (auth.Operator, *Problem) {
	if header := r.Header.Get("Authorization"); header != "" {
		if token, ok := bearer(header); ok {
			if op, ok := s.deps.Operators.Authenticate(token, s.cfg.Now()); ok {
				return op, nil
			}
		}
		return auth.Operator{}, unauthorized("bad_token", "the token is wrong; operators use: Authorization: Bearer TOKEN")
	}
	if c, err := r.Cookie(cookieName); err == nil {
		if op, ok := s.deps.Operators.FromCookie(c.Value, s.cfg.Now()); ok {
			return op, nil
		}
		return auth.Operator{}, unauthorized("login_expired", "the login has ended; log in again")
	}
	return auth.Operator{}, unauthorized("no_credentials", "send Authorization: Bearer TOKEN, or log in by POST /api/v1/login")
}

func unauthorized(reason, detail string) *Problem {
	return newProblem(http.StatusUnauthorized, reason, "%s", detail).with("WWW-Authenticate", `Bearer realm="telemetry hub"`)
}

func bearer(header string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	return token, ok && token != "" && strings.EqualFold(scheme, "Bearer")
}

// checkOrigin refuses requests of other sites' pages, which a browser would send with our cookie. By cookie, a change
// must also say where it comes from (Sec-Fetch-Site or Origin), as every browser does.
func (s *Server) checkOrigin(r *http.Request, role access) *Problem {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if r.Header.Get("Authorization") != "" {
		return nil
	}
	if err := s.origin.Check(r); err != nil {
		return newProblem(http.StatusForbidden, "cross_origin", "the request comes from another site's page")
	}
	if _, err := r.Cookie(cookieName); err != nil || role == open {
		return nil
	}
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return newProblem(http.StatusForbidden, "cross_origin", "a change by cookie must bear Sec-Fetch-Site or Origin; programs use a bearer token")
	}
	return nil
}
