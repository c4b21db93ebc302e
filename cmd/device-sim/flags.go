package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"telemetryhub/wire"
)

// Bounds of the flags.
const (
	maxDevices = 100_000
	maxRate    = 1000 // readings/s of one device: its times are told apart by the millisecond
	maxBatch   = 400  // readings a frame: about 120 bytes each have to fit into the hub's max_frame of 64 KB
	maxWindow  = 10_000

	idForm = "%s-%05d"
)

// What devices speak.
const (
	protocolWSS     = "wss"
	protocolMQTT    = "mqtt"
	protocolMQTTWSS = "mqtt+wss"
)

// options are the flags as they were given.
type options struct {
	URL            string        `name:"url" env:"HUB_URL" default:"https://localhost:8443" help:"The hub's address."`
	CA             string        `name:"ca" env:"HUB_CA" placeholder:"FILE" help:"Certificate authority of the hub, in PEM (DIR/tls/ca.pem)."`
	AdminTokenFile string        `placeholder:"FILE" help:"An admin's token (DIR/admin.token); registers the devices, and reads back for --verify."`
	EnrolKey       string        `placeholder:"FILE" help:"An enrolment key (hubctl enrol add): the devices enrol themselves when they first connect, and no admin is needed but for --verify."`
	Devices        int           `default:"10" help:"How many devices; with --replay each node of the files is one."`
	Prefix         string        `default:"sim" help:"What the devices' ids begin with: PREFIX-00001 and so on. Two fleets at one hub need two."`
	Rate           float64       `default:"1" help:"Readings a second of each device; 0 only connects and stays."`
	Duration       time.Duration `help:"How long readings are sent; until Ctrl-C if left out."`
	Replay         []string      `placeholder:"FILE.csv" help:"Send the readings of these files: the history at once with times shifted to end now, then again live for ever (see --speed)."`
	Speed          *float64      `placeholder:"X" help:"Replay X times as fast as real, once, with times shifted so that none is ahead of now; 0: as fast as acknowledged, once, with the original times."`
	Protocol       string        `default:"wss" help:"wss, mqtt (over TLS, see --mqtt-url) or mqtt+wss (MQTT over WebSocket, on --url's port)."`
	MTLS           bool          `name:"mtls" help:"Devices prove themselves by certificates of the hub's authority in place of tokens: each makes a key of its own."`
	Encoding       string        `default:"json" help:"json, cbor, senml+json or senml+cbor."`
	Faults         []string      `help:"Any of ${faults}."`
	ConnectRate    float64       `default:"200" help:"First connections a second, all devices together; 0: all at once."`
	Window         int           `default:"16" help:"Frames a device sends ahead of the acknowledgements."`
	Batch          int           `default:"1" help:"Readings a frame."`
	State          bool          `default:"true" negatable:"" help:"Devices report a state (firmware, model, interval) and obey what is desired of them; interval in seconds, not below 1/rate."`
	Clockless      bool          `help:"Devices without a clock: readings bear no time."`
	Verify         bool          `help:"Afterwards read everything back; exit 1 if an acknowledged reading is not stored exactly once."`
	VerifyAfter    time.Duration `help:"With --verify: wait so long before reading back, which costs the hub more than the readings did."`
	JSON           bool          `name:"json" help:"End with one JSON object on standard output."`
	Seed           uint64        `help:"Repeats the values and the faults of an earlier run; boots and the run's number are random all the same."`
	Device         string        `placeholder:"ID" help:"One device of this id that is registered already; needs --token-file and no admin."`
	TokenFile      string        `placeholder:"FILE" help:"Token of --device. One that the hub gives it on its connection takes the place of the one in the file."`
	MQTTURL        string        `name:"mqtt-url" placeholder:"URL" help:"Address for MQTT; ssl://HOST:8883 with --url's host if left out."`
	Bridged        bool          `help:"--mqtt-url is an external broker that the hub fetches readings from (bridge.brokers): its acknowledgements are not the hub's, and --verify waits until what it has acknowledged has come."`
}

// usageError is a command line that cannot be run; all its faults are told at once.
type usageError struct{ faults []string }

func (e *usageError) Error() string {
	return strings.Join(e.faults, "\n            ") + "\n            (device-sim --help shows the flags)"
}

// errHelp says that help was asked for and printed.
var errHelp = errors.New("help was printed")

// parseFlags reads and checks the command line.
func parseFlags(args []string, stdout, stderr io.Writer) (*options, error) {
	o := &options{}
	helped := false
	parser, err := kong.New(o, kong.Name("device-sim"),
		kong.Description("A fleet of simulated devices for a telemetry hub, and the judge of what the hub stores."),
		kong.Vars{"faults": strings.Join(faultNames(), ", ")},
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
	if err != nil {
		return nil, fmt.Errorf("declare the flags: %w", err)
	}
	_, err = parser.Parse(args)
	if helped {
		return nil, errHelp
	}
	if err != nil {
		return nil, &usageError{faults: []string{err.Error()}}
	}
	if faults := o.check(); len(faults) > 0 {
		return nil, &usageError{faults: faults}
	}
	return o, nil
}

func (o *options) check() []string {
	var faults []string
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	fault(o.Devices < 1 || o.Devices > maxDevices, "--devices %d: 1 to %d", o.Devices, maxDevices)
	fault(!(o.Rate >= 0 && o.Rate <= maxRate), "--rate %v: 0 to %d readings a second and device, as readings are told apart by the millisecond; use more devices", o.Rate, maxRate)
	if err := wire.CheckDeviceID(fmt.Sprintf(idForm, o.Prefix, maxDevices)); err != nil {
		faults = append(faults, fmt.Sprintf("--prefix %q: %v", o.Prefix, err))
	}
	fault(o.Duration < 0, "--duration %v is negative", o.Duration)
	fault(o.Speed != nil && !(*o.Speed >= 0 && !math.IsInf(*o.Speed, 0)), "--speed: 0 or a positive number")
	fault(o.VerifyAfter < 0, "--verify-after %v is negative", o.VerifyAfter)
	fault(o.VerifyAfter > 0 && !o.Verify, "--verify-after goes with --verify only")
	fault(o.Speed != nil && len(o.Replay) == 0, "--speed goes with --replay only")
	fault(!(o.ConnectRate >= 0), "--connect-rate %v is negative", o.ConnectRate)
	fault(o.Window < 1 || o.Window > maxWindow, "--window %d: 1 to %d frames", o.Window, maxWindow)
	fault(o.Batch < 1 || o.Batch > maxBatch, "--batch %d: 1 to %d readings a frame, so that it fits into the hub's max_frame", o.Batch, maxBatch)
	faults = append(faults, o.checkProtocol()...)
	for _, name := range o.Faults {
		fault(!slices.Contains(faultNames(), name), "--faults %s: not known; there are %s", name, strings.Join(faultNames(), ", "))
	}
	fault(len(o.Replay) > 0 && o.Clockless, "--clockless does not go with --replay: replayed readings are known by their time")
	faults = append(faults, o.checkCredentials()...)
	return faults
}

func (o *options) checkProtocol() []string {
	var faults []string
	if protocols := []string{protocolWSS, protocolMQTT, protocolMQTTWSS}; !slices.Contains(protocols, o.Protocol) {
		faults = append(faults, fmt.Sprintf("--protocol %s: not known; there are %s", o.Protocol, strings.Join(protocols, ", ")))
	}
	faults = append(faults, o.checkEncoding()...)
	hub, err := url.Parse(o.URL)
	if err != nil || hub.Host == "" || hub.Scheme != "https" && hub.Scheme != "http" {
		return append(faults, fmt.Sprintf("--url %q: want https://HOST:PORT", o.URL))
	}
	if o.Bridged && (o.Protocol != protocolMQTT || o.MQTTURL == "") {
		faults = append(faults, "--bridged: needs --protocol mqtt and the broker's --mqtt-url")
	}
	if o.MQTTURL == "" {
		o.MQTTURL = "ssl://" + net.JoinHostPort(hub.Hostname(), "8883")
	}
	broker, err := url.Parse(o.MQTTURL)
	if err != nil || broker.Port() == "" || !slices.Contains([]string{"ssl", "tls", "mqtts", "tcp", "mqtt"}, broker.Scheme) {
		faults = append(faults, fmt.Sprintf("--mqtt-url %q: want ssl://HOST:PORT, or tcp://HOST:PORT for the plain port on loopback", o.MQTTURL))
	}
	return faults
}

// maxPacked bounds the readings of a SenML pack: some 200 bytes each have to fit into the hub's max_frame.
const maxPacked = 200

func (o *options) checkEncoding() []string {
	if !slices.Contains(encodings(), o.Encoding) {
		return []string{fmt.Sprintf("--encoding %s: not known; there are %s", o.Encoding, strings.Join(encodings(), ", "))}
	}
	if !encoding(o.Encoding).senML() {
		return nil
	}
	var faults []string
	if o.Clockless {
		faults = append(faults, "--clockless does not go with --encoding "+o.Encoding+": its readings bear no number, and are known by their time alone")
	}
	if o.Batch > maxPacked {
		faults = append(faults, fmt.Sprintf("--batch %d: 1 to %d with --encoding %s, so that it fits into the hub's max_frame", o.Batch, maxPacked, o.Encoding))
	}
	return faults
}

func (o *options) checkCredentials() []string {
	if plain := strings.HasPrefix(o.URL, "http:"); o.MTLS && (o.Device != "" || plain) {
		return []string{"--mtls is for devices that are registered by the run, and for TLS: not with --device, nor with a --url http://"}
	}
	if o.EnrolKey != "" && (o.TokenFile != "" || o.MTLS) {
		return []string{"--enrol-key is in place of --token-file and of --mtls"}
	}
	if o.EnrolKey != "" && o.Verify && o.AdminTokenFile == "" {
		return []string{"--verify is not possible with an enrolment key alone, as devices may not read back; give --admin-token-file as well"}
	}
	if o.Device == "" {
		switch {
		case o.TokenFile != "":
			return []string{"--token-file goes with --device"}
		case o.AdminTokenFile == "" && o.EnrolKey == "":
			return []string{"--admin-token-file is missing (DIR/admin.token, where DIR is the hub's data folder); or give --enrol-key; or name one registered device by --device and --token-file"}
		}
		return nil
	}
	var faults []string
	if err := wire.CheckDeviceID(o.Device); err != nil {
		faults = append(faults, "--device: "+err.Error())
	}
	if o.TokenFile == "" && o.EnrolKey == "" {
		faults = append(faults, "--device needs its token by --token-file")
	}
	if len(o.Replay) > 0 {
		faults = append(faults, "--device does not go with --replay, whose devices are the files' nodes")
	}
	if o.Verify && o.AdminTokenFile == "" {
		faults = append(faults, "--verify is not possible with a device's token alone, as it may not read back; give --admin-token-file as well")
	}
	return faults
}

// replayMode says how files are replayed.
type replayMode int

const (
	replayNone    replayMode = iota
	replayHistory            // the history at once, then live for ever
	replayPaced              // once, at a multiple of the real pace
	replayAtOnce             // once, as fast as acknowledged, with the original times
)

func (o *options) replayMode() replayMode {
	switch {
	case len(o.Replay) == 0:
		return replayNone
	case o.Speed == nil:
		return replayHistory
	case *o.Speed == 0:
		return replayAtOnce
	}
	return replayPaced
}
