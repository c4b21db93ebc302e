package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"telemetryhub/api/client"
)

// commandLine is all that hubctl understands; kong reads it.
type commandLine struct {
	URL       string        `placeholder:"URL" help:"Address of the hub (HUB_URL; default ${url})."`
	TokenFile string        `placeholder:"FILE" type:"path" help:"File that holds the operator's token (or the token itself in HUB_TOKEN; for a hub on this machine ./data/admin.token, if it is there)."`
	CA        string        `name:"ca" placeholder:"FILE" type:"path" help:"Certificate of the hub's authority (HUB_CA; ./data/tls/ca.pem, if it is there)."`
	JSON      bool          `name:"json" help:"JSON instead of tables; watch and history print one object a line."`
	Within    time.Duration `placeholder:"30s" default:"30s" help:"Time limit of one request."`
	Help      helpFlag      `short:"h" help:"Show help."`

	Devices struct {
		Ls    devicesLs    `cmd:"" help:"List devices."`
		Add   devicesAdd   `cmd:"" help:"Register a device and print its token, once."`
		Show  devicesShow  `cmd:"" help:"Show a device."`
		Set   devicesSet   `cmd:"" help:"Change a device."`
		Rm    devicesRm    `cmd:"" help:"Remove a device."`
		Token devicesToken `cmd:"" help:"Give a device a new token; the old one ends at once, or when --keep says."`

		Credentials devicesCredentials `cmd:"" help:"List what a device can prove itself with."`
		Revoke      devicesRevoke      `cmd:"" help:"Revoke one of a device's credentials; a connection by it ends."`
		Rotate      devicesRotate      `cmd:"" help:"Offer connected devices new tokens on their open connections."`

		Cert devicesCert `cmd:"" help:"Give a device a certificate of the hub's authority, for its own key or a new one."`

		Probe    devicesProbe    `cmd:"" help:"Ask a device whether its program lives."`
		Unfreeze devicesUnfreeze `cmd:"" help:"Let a device in again that was frozen, as several used its identity."`

		Import  devicesImport  `cmd:"" help:"Register many devices from a list, all or none."`
		Export  devicesExport  `cmd:"" help:"Write the devices as a list that import reads."`
		Methods devicesMethods `cmd:"" help:"Show the commands that a device takes."`
	} `cmd:"" aliases:"device" help:"The registry: list, add, show, change, remove devices."`
	Enrol struct {
		Ls   enrolLs   `cmd:"" help:"List enrolment keys, the oldest first."`
		Add  enrolAdd  `cmd:"" help:"Make an enrolment key and print it, once."`
		Show enrolShow `cmd:"" help:"Show an enrolment key: its terms, how often it was used and refused."`
		Set  enrolSet  `cmd:"" help:"Change an enrolment key: disable it, extend it."`
		Rm   enrolRm   `cmd:"" help:"Remove an enrolment key; the devices that it enrolled stay."`
	} `cmd:"" help:"Enrolment keys: with one, new devices get credentials of their own."`
	Bridge struct {
		Ls     bridgeLs     `cmd:"" help:"List the bridges and how they fare."`
		Show   bridgeShow   `cmd:"" help:"Show a bridge, and the last messages that it refused."`
		Try    bridgeTry    `cmd:"" help:"Show what a message would become, or why not."`
		Seen   bridgeSeen   `cmd:"" help:"List devices that bridges have seen and that are not registered."`
		Admit  bridgeAdmit  `cmd:"" help:"Register devices that were seen; their next message counts."`
		Ignore bridgeIgnore `cmd:"" help:"Keep devices off that list, or undo it."`
	} `cmd:"" aliases:"bridges" help:"MQTT bridges, and the devices that they bring."`
	Send     sendCommand `cmd:"" help:"Send a command to a device."`
	Commands struct {
		Ls     commandsLs     `cmd:"" help:"List commands, the newest first."`
		Show   commandsShow   `cmd:"" help:"Show a command and its story."`
		Cancel commandsCancel `cmd:"" help:"Cancel a command, or ask its device to."`
		Retry  commandsRetry  `cmd:"" help:"Send an ended command again, as a new one."`
	} `cmd:"" aliases:"command" help:"The ledger of commands."`
	Rollouts struct {
		Ls      rolloutsLs      `cmd:"" help:"List rollouts, the newest first."`
		Show    rolloutsShow    `cmd:"" help:"Show a rollout: counts per outcome, waves, story."`
		Devices rolloutsDevices `cmd:"" help:"List what became of its devices."`
		Failed  rolloutsFailed  `cmd:"" help:"List the devices that failed, and why."`
		Pause   rolloutsPause   `cmd:"" help:"Send nothing more until it is resumed."`
		Resume  rolloutsResume  `cmd:"" help:"Go on with one that is paused or stopped."`
		Cancel  rolloutsCancel  `cmd:"" help:"Cancel the rest of it."`
	} `cmd:"" aliases:"rollout" help:"Commands to many devices (hubctl send --to)."`
	State struct {
		Show    stateShow    `cmd:"" default:"withargs" help:"Show what is desired of a device, what it reported, and what differs."`
		Set     stateSet     `cmd:"" help:"Change what is desired of a device."`
		History stateHistory `cmd:"" help:"List the changes of a device's state, the newest first."`
	} `cmd:"" help:"What operators desire of a device and what it reported: hubctl state DEVICE."`
	Why        whyCommand     `cmd:"" help:"Say why a device is as it is: diagnosis and what befell it on the line."`
	Watch      watchCommand   `cmd:"" help:"Show readings, presence, commands and states as they happen."`
	History    historyCommand `cmd:"" help:"Read back what a device measured."`
	Latest     latestCommand  `cmd:"" help:"Show the newest value of each field of a device."`
	Audit      auditCommand   `cmd:"" help:"Account for every reading received."`
	Acts       actsCommand    `cmd:"" help:"Show who did what to which device from where."`
	Quarantine struct {
		Ls    quarantineLs    `cmd:"" help:"List readings that could not be stored, the newest first."`
		Show  quarantineShow  `cmd:"" help:"Show one of them."`
		Retry quarantineRetry `cmd:"" help:"Try again to store them, after what was wrong is mended."`
		Drop  quarantineDrop  `cmd:"" help:"Drop them: they count as refused (dropped)."`
	} `cmd:"" help:"Readings that could not be stored."`
	Types struct {
		Ls  typesLs  `cmd:"" help:"List the types that fields have in the store."`
		Set typesSet `cmd:"" help:"Change the type of a field."`
	} `cmd:"" aliases:"type" help:"Types of fields in the store."`
	Operators struct {
		Ls    operatorsLs    `cmd:"" help:"List operators."`
		Show  operatorsShow  `cmd:"" help:"Show an operator and its tokens."`
		Add   operatorsAdd   `cmd:"" help:"Add an operator and print its token, once."`
		Set   operatorsSet   `cmd:"" help:"Change an operator's role or devices, or disable it."`
		Rm    operatorsRm    `cmd:"" help:"Remove an operator; its tokens and logins end at once."`
		Token operatorsToken `cmd:"" help:"Give an operator a token, or end one."`
	} `cmd:"" aliases:"operator" help:"Who may use the hub: people and programs, their roles, devices and tokens."`
	Whoami     whoamiCommand     `cmd:"" help:"Say whose the token is, and what it may do."`
	Replay     replayCommand     `cmd:"" help:"Write to the store again what the journal still keeps."`
	Health     healthCommand     `cmd:"" help:"Say whether the hub is ready; exit status 0 if it is."`
	Metrics    metricsCommand    `cmd:"" help:"Print the hub's metrics in Prometheus' text format."`
	Completion completionCommand `cmd:"" help:"Print the completion script of a shell."`
	Complete   completeCommand   `cmd:"" name:"__complete" hidden:"" passthrough:""`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

const description = "The operator's command line of Telemetry Hub.\n\n" + exitHelp

// app is what a command works with.
type app struct {
	ctx      context.Context
	hub      *client.Client
	connect  func() error // makes hub anew
	hasToken bool
	stdout   io.Writer
	stderr   io.Writer
	json     bool
	now      func() time.Time
	parser   *kong.Kong
}

var errHelp = errors.New("help was shown")

// helpFlag prints the help of the command at hand. kong's own would end the process.
type helpFlag bool

// BeforeReset is kong's hook, called before anything is missed on the command line.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	return errors.Join(ctx.PrintUsage(false), errHelp)
}

// run is hubctl without the process around it: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	var line commandLine
	parser, err := kong.New(&line,
		kong.Name("hubctl"), kong.Description(description), kong.Vars{"url": client.DefaultURL},
		kong.NoDefaultHelp(), kong.Writers(stdout, stderr), kong.Exit(func(int) {}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 120}),
	)
	if err != nil {
		return finish(err, stderr, true)
	}
	parsed, err := parser.Parse(joinRelativeTimes(args))
	if errors.Is(err, errHelp) {
		return exitOK
	}
	if err != nil {
		say(stderr, "hubctl: "+err.Error())
		say(stderr, "hubctl: see "+strings.TrimSpace("hubctl "+commandOf(err))+" --help")
		return exitUsage
	}
	a := &app{ctx: ctx, stdout: stdout, stderr: stderr, json: line.JSON, now: time.Now, parser: parser}
	a.connect = func() error { return a.dial(&line, getenv) }
	if err := a.connect(); err != nil && line.Health.Wait == 0 { // a hub that is starting has not written its files yet
		return finish(err, stderr, true)
	}
	defer a.close()
	return finish(parsed.Run(a), stderr, a.hasToken)
}

// joinRelativeTimes writes "--from -1h" as "--from=-1h": for kong, what begins with a hyphen is a flag.
func joinRelativeTimes(args []string) []string {
	var joined []string
	for i := 0; i < len(args); i++ {
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		if (args[i] == "--from" || args[i] == "--to") && len(next) > 1 && next[0] == '-' && next[1] >= '0' && next[1] <= '9' {
			joined = append(joined, args[i]+"="+next)
			i++
			continue
		}
		joined = append(joined, args[i])
	}
	return joined
}

// dial makes the client; a second call makes it anew, from the files as they are by then.
func (a *app) dial(line *commandLine, getenv func(string) string) error {
	a.close()
	cfg, err := line.connection(getenv)
	if err != nil {
		return err
	}
	hub, err := client.New(cfg)
	if err != nil {
		return usageError("%v", err)
	}
	a.hub, a.hasToken = hub, cfg.Token != ""
	return nil
}

func (a *app) close() {
	if a.hub != nil {
		a.hub.Close()
		a.hub = nil
	}
}

// commandOf is the command that a faulty line had come to.
func commandOf(err error) string {
	var parse *kong.ParseError
	if !errors.As(err, &parse) || parse.Context == nil {
		return ""
	}
	var words []string
	for _, step := range parse.Context.Path {
		if step.Command != nil {
			words = append(words, step.Command.Name)
		}
	}
	return strings.Join(words, " ")
}

// connection joins flags, environment and the files of a hub started in this folder, in this order.
func (l *commandLine) connection(getenv func(string) string) (client.Config, error) {
	cfg := client.Config{URL: l.URL, CAFile: l.CA, Timeout: l.Within, Agent: "hubctl"}
	if cfg.URL == "" {
		cfg.URL = getenv("HUB_URL")
	}
	if cfg.CAFile == "" {
		cfg.CAFile = getenv("HUB_CA")
	}
	if local := filepath.Join("data", "tls", "ca.pem"); cfg.CAFile == "" && exists(local) {
		cfg.CAFile = local
	}
	file := l.TokenFile
	if file == "" {
		cfg.Token = getenv("HUB_TOKEN")
	}
	// An admin's token of this machine's hub is not shown to another machine.
	if local := filepath.Join("data", "admin.token"); file == "" && cfg.Token == "" && onThisMachine(cfg.URL) && exists(local) {
		file = local
	}
	if file == "" {
		return cfg, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return cfg, usageError("read the token: %v", err)
	}
	if cfg.Token = strings.TrimSpace(string(data)); cfg.Token == "" {
		return cfg, usageError("the token file %s is empty", file)
	}
	return cfg, nil
}

func exists(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

func onThisMachine(address string) bool {
	if address == "" {
		return true
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
