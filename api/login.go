package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"telemetryhub/auth"
)

const cookieName = "hub_session"

// Wrong tokens, at login and of any request, that are answered with 401; those beyond get 429. Tokens have 256 random
// bits, so this is against noise, not against guessing. A right token is never refused for what others did: many may
// share an address (NAT), and looking a token up costs no more than counting it would.
const (
	loginsPerAddress = 5 // at once
	loginRefill      = 10 * time.Second
	loginsOfAll      = 100 // at once
	loginRefillAll   = 100 * time.Millisecond
	loginAddresses   = 4096 // addresses remembered
)

const reasonTooManyLogins = "too_many_logins"

func tooManyLogins(wait time.Duration) *Problem {
	return newProblem(http.StatusTooManyRequests, reasonTooManyLogins, "too many wrong tokens came from your address, or in all").retryAfter(wait)
}

// loginLimits counts failed logins.
type loginLimits struct {
	mu        sync.Mutex
	all       *rate.Limiter
	addresses map[netip.Prefix]*rate.Limiter
}

func newLoginLimits() *loginLimits {
	return &loginLimits{all: rate.NewLimiter(rate.Every(loginRefillAll), loginsOfAll), addresses: map[netip.Prefix]*rate.Limiter{}}
}

// fail counts a wrong token. Where there were too many it returns when the next one is answered with 401 again.
func (l *loginLimits) fail(remote string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := addressOf(remote)
	own := l.addresses[from]
	if own == nil {
		own = rate.NewLimiter(rate.Every(loginRefill), loginsPerAddress)
	}
	for _, limit := range []*rate.Limiter{own, l.all} {
		if missing := 1 - limit.TokensAt(now); missing > 0 {
			return time.Duration(missing / float64(limit.Limit()) * float64(time.Second))
		}
	}
	own.AllowN(now, 1)
	l.all.AllowN(now, 1)
	if len(l.addresses) >= loginAddresses {
		l.forget(now)
	}
	l.addresses[from] = own
	return 0
}

// forget drops the addresses whose failures are over, or, when there are none, any one.
func (l *loginLimits) forget(now time.Time) {
	for address, limit := range l.addresses {
		if limit.TokensAt(now) >= loginsPerAddress {
			delete(l.addresses, address)
		}
	}
	for address := range l.addresses {
		if len(l.addresses) < loginAddresses {
			break
		}
		delete(l.addresses, address)
	}
}

// addressOf is the address that failures are counted by: of IPv6 the /64, which one host has for itself.
func addressOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{} // no address at all: all of these count as one
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits) // bits fit the address
	return prefix
}

type loginInput struct {
	Body struct {
		Token string `json:"token" minLength:"1" maxLength:"256" doc:"An operator's token"`
	}
}

type cookieOutput struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

type meOutput struct {
	Body struct {
		Name string    `json:"name"`
		Role auth.Role `json:"role" enum:"viewer,operator,admin"`

		Scope *OperatorScope `json:"scope,omitempty" doc:"The devices that you see and command; left out: all"`
		Until time.Time      `json:"until,omitzero" doc:"When the token or the login ends; left out: not by itself"`
	}
}

func (s *Server) registerLogin() {
	register(s, open, huma.Operation{
		OperationID: "login", Method: http.MethodPost, Path: "/api/v1/login", Tags: []string{"operators"}, MaxBodyBytes: 4<<10 + 1,
		Summary: "Log in: a token for a cookie", Description: "Wrong tokens, here and of any request, are answered with 429 and Retry-After where too many came, in all or from one address. A right one is always let in.",
	}, s.login)
	register(s, open, huma.Operation{
		OperationID: "logout", Method: http.MethodPost, Path: "/api/v1/logout", Tags: []string{"operators"},
		Summary: "Log out", Description: "Takes the cookie from the browser. A copy of it would be good until it expires or the operator's token is revoked.",
	}, func(ctx context.Context, _ *struct{}) (*cookieOutput, error) {
		if x := exchangeOf(ctx); x.request.Header.Get("Cookie") != "" {
			if op, p := s.authenticate(x.request); p == nil {
				x.operator = op
				s.deps.Acts.Note(s.act(x, "logout"))
			}
		}
		c := loginCookie("", time.Unix(0, 0))
		c.MaxAge = -1
		return &cookieOutput{SetCookie: c}, nil
	})
	register(s, viewer, huma.Operation{
		OperationID: "me", Method: http.MethodGet, Path: "/api/v1/me", Tags: []string{"operators"}, Summary: "Who am I",
	}, func(ctx context.Context, _ *struct{}) (*meOutput, error) {
		out := &meOutput{}
		op := exchangeOf(ctx).operator
		out.Body.Name, out.Body.Role, out.Body.Scope, out.Body.Until = op.Name, op.Role, scopeView(op.Scope), op.Until
		return out, nil
	})
}

func (s *Server) login(ctx context.Context, in *loginInput) (*cookieOutput, error) {
	now, remote := s.cfg.Now(), exchangeOf(ctx).request.RemoteAddr
	op, ok := s.deps.Operators.Authenticate(in.Body.Token, now)
	if !ok {
		s.metrics.logins.Inc()
		p := unauthorized("bad_token", "the token is wrong")
		if wait := s.logins.fail(remote, now); wait > 0 {
			p = tooManyLogins(wait)
		} else {
			s.log.WarnContext(ctx, "login refused", "remote", remote)
		}
		s.noteRefusal(exchangeOf(ctx), "login.failed", p)
		return nil, p
	}
	value, expires, err := s.deps.Operators.NewCookie(op, now)
	if err != nil {
		return nil, err
	}
	exchangeOf(ctx).operator = op
	if err := s.deps.Acts.Append(ctx, s.act(exchangeOf(ctx), "login")); err != nil {
		return nil, s.unlogged("log in again later, or use the token itself", err)
	}
	s.log.InfoContext(ctx, "operator logged in", "operator", op.Name, "remote", remote)
	return &cookieOutput{SetCookie: loginCookie(value, expires)}, nil
}

func loginCookie(value string, expires time.Time) http.Cookie {
	return http.Cookie{Name: cookieName, Value: value, Path: "/", Expires: expires, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode}
}
