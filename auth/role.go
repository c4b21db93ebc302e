package auth

import "fmt"

// Role is what an operator may do. Each role includes those before it.
type Role string

// The roles, from the least to the most powerful.
const (
	RoleViewer   Role = "viewer"   // reads everything but secrets
	RoleOperator Role = "operator" // also sends commands
	RoleAdmin    Role = "admin"    // also changes devices and credentials
)

// rank orders the roles; 0 is no role at all.
func (r Role) rank() int {
	switch r {
	case RoleViewer:
		return 1
	case RoleOperator:
		return 2
	case RoleAdmin:
		return 3
	default:
		return 0
	}
}

// Allows reports whether someone with role r may do what needs role need. An unknown role allows nothing, and nothing
// allows an unknown need.
func (r Role) Allows(need Role) bool {
	return need.rank() > 0 && r.rank() >= need.rank()
}

// CheckRole reports a role that does not exist.
func CheckRole(r Role) error {
	if r.rank() == 0 {
		return fmt.Errorf("role %q: must be viewer, operator or admin", string(r))
	}
	return nil
}
