package maps

import "time"

// Group is maps and commands that belong together: those of one preset, or those that the configuration of one broker
// holds. The commands of a group are for the devices that its maps have made.
type Group struct {
	Name     string    `yaml:"name"`   // of the preset; empty: the configuration's own
	Ignore   []string  `yaml:"ignore"` // patterns of topics that come along and mean nothing
	Maps     []Map     `yaml:"maps"`
	Commands []Command `yaml:"commands"`
}

// Map says what a message of certain topics is.
type Map struct {
	Name   string   `yaml:"name"`   // how messages and errors call it
	Topic  string   `yaml:"topic"`  // pattern: {name} stands for one level or a part of one, {name...} for the rest or for what stands before the levels that follow, + and # as in MQTT
	Except []string `yaml:"except"` // patterns of topics that are not meant
	When   string   `yaml:"when"`   // expression; false: the message is for the next map of the same topic beside this one, or passed over
	As     string   `yaml:"as"`     // telemetry (default), event, state, presence or announce

	Payload string `yaml:"payload"` // json (default), auto, number, text, cbor, senml or line
	Expr    string `yaml:"expr"`    // expression whose result takes the payload's place
	Each    string `yaml:"each"`    // path of a list: each of its elements is a message of its own

	Identity `yaml:",inline"`
	Values   `yaml:",inline"`
	Clock    `yaml:",inline"`
	Words    `yaml:",inline"`

	Report   map[string]string `yaml:"report"` // name: path or template of what is also reported as state
	Examples []Example         `yaml:"examples"`
}

// Identity says whose message it is: templates.
type Identity struct {
	Device string `yaml:"device"` // of the device id; empty: {device}
	Type   string `yaml:"type"`   // what is known of a device that is seen for the first time
	Label  string `yaml:"label"`
	Model  string `yaml:"model"`

	Firmware string `yaml:"firmware"`
}

// Values says which values a message bears, of telemetry, event and state.
type Values struct {
	Measurement string            `yaml:"measurement"` // template; empty: telemetry, and of line the measurement of the line
	Field       string            `yaml:"field"`       // template of the name of a payload that is one value; empty: value
	Fields      map[string]string `yaml:"fields"`      // name: path or template; empty: all
	Omit        []string          `yaml:"omit"`        // paths that are left out, where all is taken; * is any member
	Absent      []string          `yaml:"absent"`      // texts that stand for no value; a reading that has none is passed over
	Arrays      string            `yaml:"arrays"`      // of lists: quarantine (default), index or omit
	Units       map[string]string `yaml:"units"`       // field, in which * stands for any text: template of its unit
}

// Clock says when a reading was measured and which number it has.
type Clock struct {
	Time       string `yaml:"time"`        // path; empty: the time of receipt
	TimeFormat string `yaml:"time_format"` // iso (default), s, ms, us, ns, age_s, age_ms or a layout of Go
	TimeZone   string `yaml:"time_zone"`   // of times that name none; empty: UTC; none: they are no times
	TimeElse   string `yaml:"time_else"`   // of what is no time, or before 2000: quarantine (default) or receipt
	Boot       string `yaml:"boot"`        // path or template
	Seq        string `yaml:"seq"`         // path
}

// Words are the words of events and of presence.
type Words struct {
	Event    string   `yaml:"event"`    // path or template of an event's name
	Severity string   `yaml:"severity"` // path or template; empty: info
	Value    string   `yaml:"value"`    // of presence: path; empty: the payload
	Online   []string `yaml:"online"`   // empty: online, true, 1, connected
	Offline  []string `yaml:"offline"`  // empty: offline, false, 0, disconnected, lost
}

// Command says how a command goes down to a device and how its outcome is known.
type Command struct {
	Method      string    `yaml:"method"` // *: each that no other command has
	Description string    `yaml:"description"`
	Params      any       `yaml:"params"` // JSON Schema
	Types       []string  `yaml:"types"`  // of the devices that have it; empty: all of the group
	When        string    `yaml:"when"`   // expression over params; false: refused
	Topic       string    `yaml:"topic"`  // template
	Payload     string    `yaml:"payload"`
	Expr        string    `yaml:"expr"`    // expression that makes the payload
	Publish     []Publish `yaml:"publish"` // instead of topic and payload: several messages, in this order
	QoS         string    `yaml:"qos"`     // 0, 1 or 2; empty: 0 of at-most-once, 1 of at-least-once

	Answer   *Answer `yaml:"answer"`
	DoneWhen *Done   `yaml:"done_when"`

	Examples []CommandExample `yaml:"examples"`
}

// Publish is one message down.
type Publish struct {
	Topic   string `yaml:"topic"`
	Payload string `yaml:"payload"`
	Expr    string `yaml:"expr"`
}

// Answer is the message that tells a command's outcome.
type Answer struct {
	Topic       string `yaml:"topic"`       // pattern
	Payload     string `yaml:"payload"`     // as of a map; empty: auto
	Device      string `yaml:"device"`      // template; empty: {device}
	When        string `yaml:"when"`        // expression; false: it answers something else
	Match       string `yaml:"match"`       // expression over result and params; false: it answers another command
	Correlation string `yaml:"correlation"` // path of what the command's payload said as {command}; empty: the oldest command is answered
	Result      string `yaml:"result"`      // path; empty: the payload
	Error       string `yaml:"error"`       // path: the command has failed where it is there and neither null, false nor empty
	Progress    string `yaml:"progress"`    // expression; true: the device works on it, and the outcome follows
}

// Done is the condition by which a command of a device that does not answer is known to be done.
type Done struct {
	Fields map[string]string `yaml:"fields"` // field of telemetry, state or presence: template of its value
	When   string            `yaml:"when"`   // expression over values and params
	Within time.Duration     `yaml:"within"` // then it is unknown
}

// Example is a message and what it must become.
type Example struct {
	Topic    string `yaml:"topic"`
	Payload  any    `yaml:"payload"` // a text as it is, else JSON
	Hex      string `yaml:"hex"`     // instead of payload
	Retained bool   `yaml:"retained"`
	Gives    any    `yaml:"gives"`   // one outcome or a list of them, with the members that matter; nothing: none
	Refused  string `yaml:"refused"` // or: the reason of its refusal
}

// CommandExample is a command and the message that it must become.
type CommandExample struct {
	Device  string            `yaml:"device"`
	Levels  map[string]string `yaml:"levels"` // what the names of topic levels stand for; empty: as the device's id tells
	Params  any               `yaml:"params"`
	Gives   any               `yaml:"gives"` // {topic, payload, qos} or a list of them
	Refused string            `yaml:"refused"`
}
