package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/auth"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

// reach says how an operation keeps to its caller's scope. It stands in the document as x-hub-scope.
type reach string

const (
	reachNone     reach = "none"     // it tells of no device, or of the caller alone
	reachPath     reach = "path"     // its path names a device, or what belongs to one: outside the scope there is none (404)
	reachFiltered reach = "filtered" // it leaves out what is outside, and refuses changes of it
	reachAll      reach = "all"      // it concerns all devices: only for operators of all devices (403)
)

const devicePrefix = "/api/v1/devices/{id}"

// reachOf is the one table of how operations keep to a scope. What is not in it is for operators of all devices only, so
// that one which is new shows nothing by mistake.
func reachOf(op *huma.Operation) reach {
	switch op.OperationID {
	case "login", "logout", "me", "healthz", "readyz", "ca", "post-telemetry", "report-state", "renew-credentials", "enrol":
		return reachNone
	case "get-command", "cancel-command", "retry-command",
		"get-rollout", "list-rollout-devices", "pause-rollout", "resume-rollout", "cancel-rollout",
		"get-quarantined", "retry-quarantined", "drop-quarantined":
		return reachPath
	case "list-devices", "create-device", "list-commands", "start-rollout", "list-rollouts", "live", "get-audit",
		"list-quarantine", "retry-quarantine", "drop-quarantine", "list-device-types", "get-device-type", "list-acts":
		return reachFiltered
	}
	if op.Path == devicePrefix || strings.HasPrefix(op.Path, devicePrefix+"/") {
		return reachPath
	}
	return reachAll
}

// sees reports whether a device is in the caller's scope. Of those that do not exist that is only true for operators of
// all devices, who are told so.
func (s *Server) sees(ctx context.Context, device string) bool {
	return s.inScope(exchangeOf(ctx).operator.Scope, device)
}

func (s *Server) inScope(scope auth.Scope, device string) bool {
	if scope.All() {
		return true
	}
	d, ok := s.deps.Registry.Get(device)
	return ok && scope.Includes(d.Tags)
}

// seesRollout reports whether a rollout was made for devices that are in the scope. One that was made for all devices is
// of those who see all devices, whomever it reached.
func seesRollout(scope auth.Scope, r *rollouts.Rollout) bool { return scope.Covers(r.Within) }

// keepToScope refuses what an operator may not reach. What is outside its scope is answered as what does not exist, in
// the same words.
func (s *Server) keepToScope(ctx huma.Context, op auth.Operator) *Problem {
	if op.Scope.All() {
		return nil
	}
	switch reachOf(ctx.Operation()) {
	case reachAll:
		return newProblem(http.StatusForbidden, "scope", "this concerns all devices; %s may use those tagged %s", op.Name, strings.Join(op.Scope.Tags, " or "))
	case reachPath:
		return s.findInScope(ctx, op.Scope)
	case reachNone, reachFiltered:
	}
	return nil
}

// findInScope looks up what the path names, and whose it is.
func (s *Server) findInScope(ctx huma.Context, scope auth.Scope) *Problem {
	id, path := ctx.Param("id"), ctx.Operation().Path
	switch {
	case strings.HasPrefix(path, devicePrefix):
		if !s.inScope(scope, id) {
			return noDevice(id)
		}
	case strings.HasPrefix(path, "/api/v1/commands/"):
		if !isCommandID(id) {
			return s.problem(ctx.Context(), commands.ErrNotFound)
		}
		if c, err := s.deps.Commands.Get(id); err != nil || !s.inScope(scope, c.Device) {
			return s.problem(ctx.Context(), commands.ErrNotFound)
		}
	case strings.HasPrefix(path, "/api/v1/rollouts/"):
		if r, err := s.deps.Rollouts.Get(ctx.Context(), id); err != nil || !seesRollout(scope, &r) {
			return s.problem(ctx.Context(), rolloutProblem(rollouts.ErrNotFound))
		}
	case strings.HasPrefix(path, "/api/v1/quarantine/"):
		if item, err := s.deps.Quarantine.Get(ctx.Context(), id); err != nil || !s.inScope(scope, item.Device) {
			return s.problem(ctx.Context(), ErrNotQuarantined)
		}
	default:
		return newProblem(http.StatusForbidden, "scope", "only for operators of all devices")
	}
	return nil
}

// checkTags refuses tags by which a device would leave the caller's scope, or never have been in it.
func checkTags(ctx context.Context, tags []string) error {
	scope := exchangeOf(ctx).operator.Scope
	if scope.Includes(tags) {
		return nil
	}
	return newProblem(http.StatusForbidden, "scope", "a device of yours bears at least one of the tags %s", strings.Join(scope.Tags, ", ")).at("body.tags", tags)
}

// auditInScope leaves out of an account what the caller does not see, and adds up what is left.
func (s *Server) auditInScope(ctx context.Context, a Audit) Audit {
	if exchangeOf(ctx).operator.Scope.All() {
		return a
	}
	a.Total = Account{Refused: map[string]uint64{}}
	a.Devices = slices.DeleteFunc(slices.Clone(a.Devices), func(d DeviceAccount) bool { return !s.sees(ctx, d.Device) })
	for _, d := range a.Devices {
		a.Total.Received += d.Received
		a.Total.Stored += d.Stored
		a.Total.Duplicate += d.Duplicate
		a.Total.Quarantined += d.Quarantined
		a.Total.Queued += d.Queued
		for reason, n := range d.Refused {
			a.Total.Refused[reason] += n
		}
	}
	return a
}

// typesInScope returns the types of the devices that the caller sees; nil stands for all.
func (s *Server) typesInScope(ctx context.Context) map[string]bool {
	scope := exchangeOf(ctx).operator.Scope
	if scope.All() {
		return nil
	}
	seen := map[string]bool{}
	for _, d := range s.deps.Registry.List() {
		if scope.Includes(d.Tags) {
			seen[d.Type] = true
		}
	}
	return seen
}
