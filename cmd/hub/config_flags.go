package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// maxConfigFile bounds what is read as a configuration: a wrong path may name anything.
const maxConfigFile = 1 << 20

// errHelp is returned by parseFlags after it has printed the help: there is nothing more to do, and nothing is wrong.
var errHelp = errors.New("help was asked for")

// flags is the hub's command line.
type flags struct {
	Config      string `placeholder:"FILE" help:"Configuration file (YAML); configs/hub.yaml shows every key."`
	Data        string `placeholder:"DIR" help:"Folder for all that the hub keeps (default ./data)."`
	Listen      string `placeholder:"HOST:PORT" help:"TLS port for devices, API and dashboard (default :8443)."`
	MQTTListen  string `name:"mqtt-listen" placeholder:"HOST:PORT|off" help:"MQTT over TLS (default :8883)."`
	NewAdmin    bool   `name:"new-admin-token" help:"Write a new token of the operator admin to DIR/admin.token, and make admin an administrator again if it is none; for when no administrator's token is left."`
	CheckConfig bool   `help:"Check the configuration and the examples of its maps, say OK or every fault, and end; as a command: hub check-config FILE."`
	Preset      string `placeholder:"NAME" help:"Print a preset's maps as they would stand in the section of a broker, to be read and copied, and end."`
	Version     bool   `help:"Print the version and end."`
}

// parseFlags reads the command line. After --help it returns errHelp; any other error is one of usage.
func parseFlags(args []string, stderr io.Writer) (flags, error) {
	var f flags
	helped := false
	parser, err := kong.New(&f,
		kong.Name("hub"),
		kong.Description("Telemetry Hub: devices connect over wss or MQTT, readings go to InfluxDB or the embedded store, commands go back."),
		kong.Writers(stderr, stderr),
		kong.Exit(func(int) { helped = true }),
	)
	if err != nil {
		return flags{}, fmt.Errorf("command line: %w", err)
	}
	_, err = parser.Parse(asFlags(args))
	if helped {
		return flags{}, errHelp
	}
	if err != nil {
		return flags{}, fmt.Errorf("%w (hub --help lists the flags)", err)
	}
	return f, nil
}

// asFlags lets the check of a configuration be written as a command: hub check-config FILE.
func asFlags(args []string) []string {
	if len(args) < 2 || args[0] != "check-config" {
		return args
	}
	return append([]string{"--check-config", "--config", args[1]}, args[2:]...)
}

// load reads the configuration file, puts secrets and flags over it and checks the whole.
func (f flags) load(getenv func(string) string) (Config, error) {
	cfg := defaultConfig()
	faults := &faultList{lines: map[string]int{}, flags: map[string]string{}}
	if f.Config != "" {
		data, err := readConfigFile(f.Config)
		if err != nil {
			faults.addAt(0, "", "%v", err)
			return Config{}, faults.err(f.Config)
		}
		decodeConfig(data, &cfg, faults)
	}
	f.override(&cfg, faults)
	cfg.normalize()
	cfg.resolveSecrets(getenv, faults)
	cfg.validate(faults)
	if err := faults.err(f.Config); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// override puts the flags that were given over the file.
func (f flags) override(cfg *Config, faults *faultList) {
	for _, o := range []struct {
		flag, key, value string
		target           *string
	}{
		{"--data", "data", f.Data, &cfg.Data},
		{"--listen", "listen", f.Listen, &cfg.Listen},
		{"--mqtt-listen", "mqtt.listen", f.MQTTListen, &cfg.MQTT.Listen},
	} {
		if o.value != "" {
			*o.target = o.value
			faults.flags[o.key] = o.flag
		}
	}
}

// normalize gives values that can be written in two ways the one form that the rest of the program knows.
func (c *Config) normalize() {
	for _, address := range []*string{&c.MQTT.Listen, &c.MQTT.PlainListen, &c.HTTP.Listen} {
		if *address == "off" {
			*address = ""
		}
	}
}

// readConfigFile reads a file of bounded size.
func readConfigFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err // the path already stands before the message
		}
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(data) > maxConfigFile {
		return nil, fmt.Errorf("is larger than %v: hardly a configuration", Size(maxConfigFile))
	}
	return data, nil
}

// version is the module's version with the commit, as the Go tool has stamped it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
