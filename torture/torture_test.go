package main

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// TestTheProductStandsEachFault is the short form of the torture, each fault a test of its own, on programs that are
// built for it.
func TestTheProductStandsEachFault(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some minutes")
	}
	l := &lab{quick: true, stderr: t.Output(), bin: t.TempDir()}
	if raceEnabled {
		clean, err := l.buildRacing(t.Context())
		t.Cleanup(clean)
		if err != nil {
			t.Fatal(err)
		}
	} else if out, err := exec.Command("go", "build", "-o", l.bin, "telemetryhub/cmd/hub", "telemetryhub/cmd/device-sim").CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			if f.name != "backlog" { // it measures
				t.Parallel()
			}
			own := *l
			own.stderr = t.Output()
			var lines bytes.Buffer
			err := own.perform(t.Context(), f, &lines)
			if errors.Is(err, errLeftOut) && lines.Len() == 0 {
				t.Skip(err)
			}
			if err != nil {
				t.Errorf("%s%v", &lines, err)
				return
			}
			t.Log(lines.String())
			if !strings.HasPrefix(lines.String(), "fault="+f.name+" sent=") || !strings.Contains(lines.String(), " lost=0 doubled=0") {
				t.Errorf("the line is %q", &lines)
			}
		})
	}
}

// A judge that cannot say no is none.
func TestAnOutcomeIsOnlyGoodWhenAllOfItIs(t *testing.T) {
	good := outcome{judged: true, sent: 3, acked: 3, stored: 3}
	if err := good.err(); err != nil {
		t.Errorf("%v", err)
	}
	if got, want := good.line("x"), "fault=x sent=3 acked=3 stored=3 lost=0 doubled=0"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	for name, spoil := range map[string]func(*outcome){
		"1 readings are missing":       func(o *outcome) { o.lost = 1 },
		"2 are too many":               func(o *outcome) { o.doubled = 2 },
		"nothing was acked":            func(o *outcome) { o.acked = 0 },
		"the judge did not speak":      func(o *outcome) { o.judged = false },
		"the fault was not played":     func(o *outcome) { o.happened("kills", 0) },
		"races=1, want 0":              func(o *outcome) { o.never("races", 1) },
		"the account does not add up!": func(o *outcome) { o.problem("the account does not add up!") },
	} {
		o := good
		spoil(&o)
		if err := o.err(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
		if line := o.line("x"); !strings.Contains(line, "failed=") || strings.Count(line, "\n") > 0 {
			t.Errorf("line %q", line)
		}
	}
}

func TestUnknownFaultsAreNamed(t *testing.T) {
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"-only", "hub-kill9,flood"}, &stdout, &stderr)
	if err == nil || !strings.Contains(err.Error(), `no fault "flood"; there are hub-kill9`) {
		t.Errorf("%v", err)
	}
	if stdout.Len() > 0 {
		t.Errorf("standard output: %q", &stdout)
	}
}
