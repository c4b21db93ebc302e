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
		return []State{Sent, Queued, Received, Running, Done, Failed, Rejected, Expired, Cancelled, Unknown}
	case Received:
		return []State{Sent, Running, Done, Failed, Rejected, Expired, Cancelled, Unknown}
	case Running:
		return []State{Sent, Done, Failed, Rejected, Expired, Cancelled, Unknown}
	case Unknown: // by a late answer only
		return []State{Done, Failed, Rejected, Expired, Cancelled}
	case Expired: // by a late answer only
		return []State{Done, Failed, Rejected}
	case Done, Failed, Rejected, Cancelled:
		return nil
	}
	return nil
}

// legal reports whether c may make a step. Beside the table it holds what the words promise:
//   - A command whose record says sent and that surely was not has no attempt. Only such a one goes back to the queue.
//   - Only an at-least-once command is sent again, or expires by the hub's clock after it was sent.
//   - A command that was sent is cancelled, or expired in another way, only by the device's own word.
//   - An expired one is mended only if it had been sent.
func legal(c *Command, step Change) bool {
	if !slices.Contains(nextStates(c.State), step.State) {
		return false
	}
	unsent, device := c.Attempt == 0, step.fromDevice
	switch c.State {
	case Sent, Received, Running:
		switch step.State {
		case Queued:
			return unsent
		case Sent:
			return c.Delivery == AtLeastOnce
		case Expired:
			return unsent || device || c.Delivery == AtLeastOnce
		case Cancelled:
			return unsent || device
		}
	case Unknown:
		return device
	case Expired:
		return device && !unsent
	}
	return true
}
