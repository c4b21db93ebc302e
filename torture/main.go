package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// fault is one way to hurt the product.
type fault struct {
	name string
	play func(ctx context.Context, s *scene) error // fills in the outcome; an error means that it could not be judged
}

// faults are all of them, in the order in which they are played.
func faults() []fault {
	list := []fault{
		{"hub-kill9", hubKill9},
		{"influxdb-kill9", influxdbKill9},
		{"influxdb-away", influxdbAway},
		{"influxdb-late", influxdbLate},
	}
	list = append(list, misbehaviours()...)
	return append(list,
		fault{"disk-full", diskFull},
		fault{"flipped-bit", flippedBit},
		fault{"forgotten-writes", forgottenWrites},
		fault{"resend-twice", resendTwice},
		fault{"clocks", clocks},
		fault{"bad-frames", badFrames},
		fault{"broken-connections", brokenConnections},
		fault{"field-names", fieldNames},
		fault{"herd", herd},
		fault{"commands", commandsFault},
		fault{"mqtt-bridge", mqttBridge},
		fault{"backlog", backlog},
		fault{"mixed", mixed},
	)
}

// Longest times of one fault.
const (
	quickLimit = 3 * time.Minute
	longLimit  = 90 * time.Minute
)

// errLeftOut is a fault that this machine cannot play.
var errLeftOut = errors.New("left out on this machine")

// lab is what all faults share.
type lab struct {
	bin         string
	environment []string // of the product's processes
	races       string   // folder of the race detector's reports; empty without -race
	quick       bool
	rounds      int
	mixed       time.Duration
	stderr      io.Writer
}

// scale is one of two sizes of a fault.
func scale[T any](l *lab, quick, long T) T {
	if l.quick {
		return quick
	}
	return long
}

func (l *lab) program(name string) string { return filepath.Join(l.bin, name) }

// say tells people what happens; standard output is for the lines of the faults.
func (l *lab) say(format string, args ...any) { fmt.Fprintf(l.stderr, format+"\n", args...) }

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	l := &lab{stderr: stderr}
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "play only these `faults`, separated by commas")
	race := flags.Bool("race", false, "build the programs with the race detector, and fail when it finds something")
	flags.StringVar(&l.bin, "bin", "bin", "`folder` of hub and device-sim")
	flags.BoolVar(&l.quick, "quick", false, "the short form: some minutes")
	flags.IntVar(&l.rounds, "rounds", 0, "how often the hub is killed (default 200, quick 10; mqtt-bridge: 50 and 3)")
	flags.DurationVar(&l.mixed, "mixed", 0, "how long the mixed fault takes (default 1h, quick 20s)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *race {
		clean, err := l.buildRacing(ctx)
		defer clean()
		if err != nil {
			return err
		}
	}
	failed := 0
	for _, f := range chosen {
		err := l.perform(ctx, f, stdout)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil && !errors.Is(err, errLeftOut) {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d faults were not stood", failed, len(chosen))
	}
	return nil
}

func choose(only string) ([]fault, error) {
	all := faults()
	if only == "" {
		return all, nil
	}
	var chosen []fault
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(f fault) bool { return f.name == strings.TrimSpace(name) })
		if i < 0 {
			var names []string
			for _, f := range all {
				names = append(names, f.name)
			}
			return nil, fmt.Errorf("no fault %q; there are %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// perform plays one fault and prints its line. The error is nil if the product stood it, and errLeftOut, without a line,
// if this machine cannot play it and that is no failure.
func (l *lab) perform(ctx context.Context, f fault, stdout io.Writer) error {
	began := time.Now()
	limit := scale(l, quickLimit, longLimit) + l.mixed
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the fault took longer than %v", limit))
	defer cancel()
	s, err := l.newScene()
	if err != nil {
		return err
	}
	err = f.play(ctx, s)
	if errors.Is(err, errLeftOut) && os.Getenv("CI") != "true" {
		l.say("%s: %v", f.name, errors.Join(err, s.close()))
		return err
	}
	if err != nil {
		s.problems = append(s.problems, err)
	}
	words := s.lastWords()
	if err := s.close(); err != nil {
		s.problem("clean up: %w", err)
	}
	s.fact("seconds", int(time.Since(began).Seconds()))
	if l.races != "" {
		s.never("races", l.raceReports())
	}
	if err = s.err(); err != nil {
		l.say("%s was not stood. Last words:\n%s", f.name, words)
	}
	fmt.Fprintln(stdout, s.line(f.name))
	return err
}

// buildRacing builds the programs with the race detector into a folder that clean removes.
func (l *lab) buildRacing(ctx context.Context) (clean func(), err error) {
	dir, err := os.MkdirTemp("", "telemetryhub-torture-bin-")
	if err != nil {
		return func() {}, fmt.Errorf("make a folder: %w", err)
	}
	clean = func() { _ = os.RemoveAll(dir) } // left over in the temporary folder at worst
	for _, name := range []string{"hub", "device-sim"} {
		build := exec.CommandContext(ctx, "go", "build", "-race", "-o", filepath.Join(dir, name), "telemetryhub/cmd/"+name)
		if out, err := build.CombinedOutput(); err != nil {
			return clean, fmt.Errorf("build %s with the race detector: %w: %s", name, err, out)
		}
	}
	l.bin, l.races = dir, filepath.Join(dir, "races")
	l.environment = []string{"GORACE=atexit_sleep_ms=20 log_path=" + l.races}
	return clean, nil
}

// raceReports shows the race detector's reports since the last call, and counts them.
func (l *lab) raceReports() int {
	files, _ := filepath.Glob(l.races + ".*") // the pattern is well formed
	for _, file := range files {
		text, err := os.ReadFile(file)
		l.say("%s: %v\n%s", file, err, text)
		_ = os.Remove(file)
	}
	return len(files)
}
