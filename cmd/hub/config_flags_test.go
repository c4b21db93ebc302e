package main

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestFlagsOverrideTheFile(t *testing.T) {
	path := writeConfig(t, "data: /from/file\nlisten: 127.0.0.1:1\nmqtt:\n  listen: 127.0.0.1:2\n")
	f, err := parseFlags([]string{"--config", path, "--data=/from/flag", "--mqtt-listen", "off"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := f.load(noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Data, want.Listen, want.MQTT.Listen = "/from/flag", "127.0.0.1:1", ""
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("read %+v\nwant %+v", cfg, want)
	}
}

func TestFaultOfAFlagNamesTheFlag(t *testing.T) {
	path := writeConfig(t, "listen: 127.0.0.1:1\n")
	for _, file := range []string{"", path} {
		_, err := flags{Config: file, Listen: "8443", MQTTListen: "on"}.load(noEnvironment)
		const want = `--listen: "8443" is not HOST:PORT; write it like :8443 or 127.0.0.1:8443
--mqtt-listen: "on" is not HOST:PORT; write it like :8443 or 127.0.0.1:8443`
		if err == nil || err.Error() != want {
			t.Errorf("with file %q: error =\n%v\nwant\n%s", file, err, want)
		}
	}
	// A fault of the file that a flag has put right is none.
	wrong := writeConfig(t, "listen: nonsense\n")
	if _, err := (flags{Config: wrong, Listen: "127.0.0.1:0"}).load(noEnvironment); err != nil {
		t.Error(err)
	}
}

func TestCommandLine(t *testing.T) {
	f, err := parseFlags(nil, io.Discard)
	if err != nil || f != (flags{}) {
		t.Errorf("no arguments: %+v, %v", f, err)
	}
	f, err = parseFlags([]string{"--version", "--check-config", "--listen", ":1"}, io.Discard)
	if want := (flags{Version: true, CheckConfig: true, Listen: ":1"}); err != nil || f != want {
		t.Errorf("flags: %+v, %v", f, err)
	}
	var help strings.Builder
	if _, err := parseFlags([]string{"--help"}, &help); !errors.Is(err, errHelp) {
		t.Errorf("--help: %v", err)
	}
	for _, flag := range []string{"--config=FILE", "--data=DIR", "--listen=HOST:PORT", "--mqtt-listen=HOST:PORT|off", "--check-config", "--version"} {
		if !strings.Contains(help.String(), flag) {
			t.Errorf("the help does not show %s:\n%s", flag, help.String())
		}
	}
	for _, args := range [][]string{{"--lisen", ":1"}, {"serve"}, {"--listen"}} {
		if _, err := parseFlags(args, io.Discard); err == nil || errors.Is(err, errHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
