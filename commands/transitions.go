package commands

import "slices"

// nextStates lists the legal changes of state. Whatever is not here cannot happen to a command:
// every change goes through legal.
func nextStates(from State) []State {
	switch from {
	case "": // a new command
		return []State{Accepted}
	case Accepted:
		return []State{Queued, Sent, Failed, Expired, Cancelled}
	case Queued:
		return []State{Sent, Failed, Expired, Cancelled}
	case Sent:
		return []State{Sent, Received, Running, Done, Failed, Rejected, Expired, Unknown}
	case Received:
		return []State{Sent, Running, Done, Failed, Rejected, Expired, Unknown}
	case Running:
		return []State{Sent, Done, Failed, Rejected, Expired, Unknown}
	case Unknown, Expired: // by a late answer only
		return []State{Done, Failed, Rejected}
	case Done, Failed, Rejected, Cancelled:
		return nil
	}
	return nil
}

// legal reports whether c may become next. Beside the table it holds what the delivery promises: only an at-least-once
// command is sent again, or expires after it was sent; an expired one is mended only if it had been sent. A command
// whose record says sent and that surely was not has no attempt.
func legal(c *Command, next State) bool {
	if !slices.Contains(nextStates(c.State), next) {
		return false
	}
	again := c.State.atDevice() && (next == Sent || next == Expired && c.Attempt > 0)
	if again && c.Delivery != AtLeastOnce {
		return false
	}
	return c.State != Expired || c.Attempt > 0
}
