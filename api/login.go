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

// Failed logins that are taken before 429. Tokens have 256 random bits, so this is against noise, not against guessing;
// the limit for all is high, so that one address's failures do not lock others out.
const (
	loginsPerAddress = 5 // at once
	loginRefill      = 10 * time.Second
	loginsOfAll      = 100 // at once
	loginRefillAll   = 100 * time.Millisecond
	loginAddresses   = 4096 // addresses remembered
)

// loginLimits counts failed logins.
type loginLimits struct {
	mu        sync.Mutex
	all       *rate.Limiter
	addresses map[netip.Prefix]*rate.Limiter
}

func newLoginLimits() *loginLimits {
	return &loginLimits{all: rate.NewLimiter(rate.Every(loginRefillAll), loginsOfAll), addresses: map[netip.Prefix]*rate.Limiter{}}
}

// try runs check unless too many have failed; then it returns how long to wait. The lock is held throughout, so that
// attempts side by side do not pass the limit together; check takes microseconds.
func (l *loginLimits) try(remote string, now time.Time, check func() bool) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := addressOf(remote)
	own := l.addresses[from]
	if own == nil {
		own = rate.NewLimiter(rate.Every(loginRefill), loginsPerAddress)
	}
	for _, limit := range []*rate.Limiter{own, l.all} {
		if missing := 1 - limit.TokensAt(now); missing > 0 {
			return false, time.Duration(missing / float64(limit.Limit()) * float64(time.Second))
		}
	}
	if check() {
		return true, 0
	}
	own.AllowN(now, 1)
	l.all.AllowN(now, 1)
	if len(l.addresses) >= loginAddresses {
		l.forget(now)
	}
	l.addresses[from] = own
	return false, 0
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
	}
}

func (s *Server) registerLogin() {
	register(s, open, huma.Operation{
		OperationID: "login", Method: http.MethodPost, Path: "/api/v1/login", Tags: []string{"operators"}, MaxBodyBytes: 4<<10 + 1,
		Summary: "Log in: a token for a cookie", Description: "Failed logins are limited, in all and by address: 429 with Retry-After.",
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
		out.Body.Name, out.Body.Role = op.Name, op.Role
		return out, nil
	})
}

func (s *Server) login(ctx context.Context, in *loginInput) (*cookieOutput, error) {
	now, remote := s.cfg.Now(), exchangeOf(ctx).request.RemoteAddr
	var op auth.Operator
	ok, wait := s.logins.try(remote, now, func() (ok bool) {
		op, ok = s.deps.Operators.Authenticate(in.Body.Token)
		return ok
	})
	if !ok {
		s.metrics.logins.Inc()
		p := unauthorized("bad_token", "the token is wrong")
		if wait > 0 {
			p = newProblem(http.StatusTooManyRequests, "too_many_logins", "too many logins have failed").retryAfter(wait)
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
