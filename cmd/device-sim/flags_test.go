package main

import (
	"io"
	"strings"
	"testing"
)

func TestFlagsThatCannotWork(t *testing.T) {
	admin := []string{"--admin-token-file", "x"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "--admin-token-file is missing"},
		{append(admin, "--devices", "0"), "--devices 0: 1 to 100000"},
		{append(admin, "--rate=-1"), "--rate -1: 0 to 1000"},
		{append(admin, "--rate", "NaN"), "--rate NaN"},
		{append(admin, "--rate", "many"), "--rate"},
		{append(admin, "--duration", "10"), "--duration"},
		{append(admin, "--speed", "2"), "--speed goes with --replay"},
		{append(admin, "--replay", "a.csv", "--clockless"), "--clockless does not go with --replay"},
		{append(admin, "--protocol", "coap"), "--protocol coap: not known; there are wss, mqtt, mqtt+wss"},
		{append(admin, "--encoding", "xml"), "--encoding xml: not known; there are json, cbor, senml+json, senml+cbor"},
		{append(admin, "--encoding", "senml+cbor", "--clockless"), "--clockless does not go with --encoding senml+cbor"},
		{append(admin, "--encoding", "senml+json", "--batch", "201"), "--batch 201: 1 to 200"},
		{append(admin, "--faults", "clock,rain"), "--faults rain: not known; there are duplicate, bad-type,"},
		{append(admin, "--window", "0"), "--window 0"},
		{append(admin, "--batch", "401"), "--batch 401"},
		{append(admin, "--url", "localhost:8443"), `--url "localhost:8443": want https://HOST:PORT`},
		{append(admin, "--mqtt-url", "wss://h/mqtt"), "--mqtt-url"},
		{append(admin, "--bridged", "--protocol", "mqtt"), "--bridged"},
		{[]string{"--device", "a b", "--token-file", "x"}, "--device: device id"},
		{[]string{"--device", "a"}, "--device needs its token"},
		{[]string{"--device", "a", "--token-file", "x", "--verify"}, "--verify is not possible with a device's token alone"},
		{[]string{"--enrol-key", "x", "--verify"}, "--verify is not possible with an enrolment key alone"},
		{[]string{"--enrol-key", "x", "--device", "a", "--token-file", "y"}, "--enrol-key is in place of --token-file"},
		{append(admin, "--enrol-key", "x", "--mtls"), "--enrol-key is in place of --token-file and of --mtls"},
		{append(admin, "--verify-after", "1s"), "--verify-after goes with --verify only"},
		{append(admin, "--verify", "--verify-after=-1s"), "--verify-after -1s is negative"},
		{append(admin, "--color"), "unknown flag --color"},
	} {
		err := run(t.Context(), c.args, io.Discard, io.Discard)
		if err == nil || exitStatus(err) != exitUsage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: status %d, error %v; want %q in it", c.args, exitStatus(err), err, c.want)
		}
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	err := run(t.Context(), []string{"--devices", "0", "--window", "0", "--encoding", "xml"}, io.Discard, io.Discard)
	for _, want := range []string{"--devices 0", "--window 0", "--encoding xml", "--admin-token-file is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout strings.Builder
	if err := run(t.Context(), []string{"--help"}, &stdout, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{
		"--url", "--ca", "--admin-token-file", "--devices", "--rate", "--duration", "--replay", "--speed", "--protocol",
		"--encoding", "--faults", "--connect-rate", "--window", "--clockless", "--verify", "--verify-after", "--json", "--seed", "--device", "--token-file", "--enrol-key", "--mqtt-url", "--bridged", "--batch",
	} {
		if !strings.Contains(stdout.String(), flag) {
			t.Errorf("help does not tell of %s", flag)
		}
	}
}

func TestTheBrokersAddressFollowsTheHubs(t *testing.T) {
	for url, want := range map[string]string{
		"https://hub.example:9443": "ssl://hub.example:8883",
		"https://[::1]:8443":       "ssl://[::1]:8883",
	} {
		o, err := parseFlags([]string{"--admin-token-file", "x", "--url", url}, io.Discard, io.Discard)
		if err != nil || o.MQTTURL != want {
			t.Errorf("%s: %v, error %v; want %s", url, o, err, want)
		}
	}
}

func TestWrongCredentialsAndNoHubAreSaid(t *testing.T) {
	h := newFakeHub(t)
	args := []string{"--url", "https://" + h.address, "--ca", h.dir + "/ca.pem", "--admin-token-file", writeFile(t, "op_wrong")}
	if err := run(t.Context(), args, io.Discard, io.Discard); err == nil || exitStatus(err) != exitFailed || !strings.Contains(err.Error(), "401") {
		t.Errorf("wrong token: %v", err)
	}
	args = []string{"--url", "https://" + h.address, "--admin-token-file", h.dir + "/admin.token"}
	if err := run(t.Context(), args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("without --ca: %v", err)
	}
	if err := run(t.Context(), h.args("--admin-token-file", h.dir+"/none"), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("no token file: %v", err)
	}
}
