package wire

import (
	"fmt"
	"time"
)

// JSON-RPC 2.0 error codes (section 5.1), and the hub's own from -32000 down.
const (
	CodeParse          = -32700 // not JSON, or not CBOR
	CodeInvalidRequest = -32600 // JSON or CBOR, but not a frame
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	CodeUnavailable    = -32000 // the hub cannot take it now; try again after data.retry_after_ms
	CodeTooLarge       = -32001 // over max_frame
	CodeCredentials    = -32002 // the credentials allow it no longer, or allow nothing new
	CodeExpired        = -32050 // a device's answer: the command came after its time, and was not started
	CodeCancelled      = -32051 // a device's answer: it gave the command up, as it was asked to
)

// Reasons, as they stand in data.reason of errors, in notices, in the audit and in metrics.
const (
	ReasonBadJSON       = "bad_json"
	ReasonBadCBOR       = "bad_cbor"
	ReasonBadSenML      = "bad_senml"
	ReasonBadUTF8       = "bad_utf8"
	ReasonBadFrame      = "bad_frame"
	ReasonUnknownMethod = "unknown_method"
	ReasonBadParams     = "bad_params"
	ReasonTooLarge      = "frame_too_large"
	ReasonStopping      = "hub_stopping"
	ReasonCredentials   = "credentials_expired" // a frame of a connection that may only renew
	ReasonRenewed       = "renewed_just_now"
	ReasonRateLimited   = "rate_limited"        // more than a limit of the device allows in a time
	ReasonConnects      = "too_many_reconnects" // likewise, of connections
	ReasonStateTooLarge = "state_too_large"     // what a device reported, or is to be told, is over a limit
	ReasonUnconfirmed   = "not_confirmed"       // a frame of a device that has not confirmed the credentials of its enrolment

	// Of single readings: these are quarantined.
	ReasonBadReading     = "bad_reading"
	ReasonBadTime        = "bad_time"
	ReasonTimePast       = "time_past"
	ReasonTimeFuture     = "time_future"
	ReasonNoValues       = "no_values"
	ReasonBadValue       = "bad_value"
	ReasonNumberRange    = "number_out_of_range"
	ReasonStringTooLong  = "string_too_long"
	ReasonBadFieldName   = "bad_field_name"
	ReasonReservedName   = "reserved_field_name"
	ReasonFieldTwice     = "field_twice"
	ReasonTooManyNames   = "too_many_names" // of fields, over all readings of the device
	ReasonTooManyFields  = "too_many_fields"
	ReasonTooDeep        = "too_deep"
	ReasonSeqUnknown     = "seq_unknown"
	ReasonStoreRejected  = "store_rejected"
	ReasonSeqGap         = "seq_gap"      // a notice only: numbers that never reached the hub
	ReasonQuarantined    = "quarantined"  // a notice only: the message says why
	ReasonJournalFull    = "journal_full" // a notice only: nothing is acked until there is room
	ReasonHubBusy        = "hub_busy"     // a notice only: nothing is acked for another reason
	ReasonJournalOK      = "journal_ok"   // a notice only: acks go on
	ReasonTelemetryFlood = "too_many_bad_frames"
	ReasonHerd           = "too_many_at_once"     // a connection is let in later: devices come faster than the hub takes them
	ReasonFull           = "too_many_connections" // a connection is not let in: as many as may be are there
)

// Close codes of the WebSocket connection: RFC 6455 section 7.4.1, its registry (1012, 1013), and ours from 4001.
const (
	CloseGoingAway   = 1001 // the hub goes for good
	CloseProtocol    = 1002
	CloseUnsupported = 1003
	CloseBadUTF8     = 1007
	ClosePolicy      = 1008
	CloseTooLarge    = 1009
	CloseRestart     = 1012 // the hub stops or restarts
	CloseOverloaded  = 1013
	CloseReplaced    = 4001 // a newer connection of the same device
	CloseNoPong      = 4002
	CloseRevoked     = 4003 // credentials revoked, or the device disabled or deleted
	CloseFrozen      = 4004 // frozen as a clone
)

// Error is a refusal as the device sees it: a JSON-RPC error with data{reason, limit, value, retry_after_ms}.
// Limit, Value and RetryAfter are left out where they are zero.
type Error struct {
	Code       int
	Message    string
	Reason     string
	Limit      int64
	Value      int64
	RetryAfter time.Duration
}

// Error says the reason and the message.
func (e *Error) Error() string { return e.Reason + ": " + e.Message }

func badFrame(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidRequest, Reason: ReasonBadFrame, Message: fmt.Sprintf(format, args...)}
}

func badParams(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidParams, Reason: ReasonBadParams, Message: fmt.Sprintf(format, args...)}
}
