package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	var usage usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// usageError is a wrong command line.
type usageError struct{ error }

const (
	// runLimit bounds one run of one part: the longest take 90 s on a busy machine.
	runLimit = 3 * time.Minute
	// stillLimit is the longest time that nothing of this program ran, although it asks for the processor many times a
	// second: above, a virtual machine was paused, or its clock jumped, and no rate of that run means anything.
	stillLimit = time.Second
	voidRuns   = 2 // how many such runs are made again

	anyPort = "127.0.0.1:0"
)

// lab is where the measurements are made.
type lab struct {
	bin    string // folder of hub and device-sim
	dir    string // for what the hubs write
	runs   int
	pace   pace
	stdout io.Writer
	stderr io.Writer
	start  time.Time
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	runs := flags.Int("runs", 0, "how often each figure is measured (default 3, with -quick 1)")
	quick := flags.Bool("quick", false, "watch each thing shortly: in two minutes, and less exact")
	only := flags.String("only", "", "figures to measure, or beginnings of their names, by commas")
	list := flags.Bool("list", false, "print the names of the figures and end")
	bin := flags.String("bin", "bin", "folder of hub and device-sim, which make build makes")
	dir := flags.String("dir", "", "folder on the disk to measure on (default: that of -bin)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if flags.NArg() > 0 || *runs < 0 {
		return usageError{errors.New("takes flags only, and -runs from 1; -help shows them")}
	}
	if *list {
		_, err := fmt.Fprintln(stdout, strings.Join(figureNames(parts()), "\n"))
		return err
	}
	names := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' || r == ' ' })
	chosen, err := choose(parts(), names)
	if err != nil {
		return usageError{err}
	}
	l := &lab{bin: *bin, runs: 3, pace: normalPace(), stdout: stdout, stderr: stderr, start: time.Now()}
	if *quick {
		l.runs, l.pace = 1, quickPace()
	}
	if *runs > 0 {
		l.runs = *runs
	}
	for _, program := range []string{"hub", "device-sim"} {
		if _, err := os.Stat(filepath.Join(*bin, program)); err != nil {
			return fmt.Errorf("%s is missing (make build makes it): %w", program, err)
		}
	}
	if *dir == "" {
		*dir = *bin // a real disk; the system's folder for temporary files is often in memory
	}
	if l.dir, err = os.MkdirTemp(*dir, "bench-"); err != nil {
		return fmt.Errorf("folder for the hubs: %w", err)
	}
	return errors.Join(l.measure(ctx, chosen), os.RemoveAll(l.dir))
}

// measure makes all measurements. One that fails does not keep the others from being made.
func (l *lab) measure(ctx context.Context, chosen []part) error {
	if inMemory(l.dir) {
		l.tell("%s is in memory: what is called durable costs nothing there; name a folder on a disk by -dir", l.dir)
	}
	if load := loadNow(); load > float64(runtime.NumCPU())/2 {
		l.tell("the load average is %.1f on %d processors: others use this machine, which makes rates and latencies worse", load, runtime.NumCPU())
	}
	var failed []error
	for _, p := range chosen {
		err := l.measurePart(ctx, p)
		var out *leftOut
		switch {
		case errors.As(err, &out):
			l.tell("left out %s: %v", p.gives[0].name, out)
		case err != nil:
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			return errors.Join(append(failed, errors.New("interrupted"))...)
		}
	}
	return errors.Join(failed...)
}

// measurePart makes the runs of one part and prints its figures: of those runs that succeeded, if any did.
func (l *lab) measurePart(ctx context.Context, p part) error {
	values := make([][]float64, len(p.gives))
	load := loadAverage{Before: loadNow()}
	var failed []error
	for n := range l.runs {
		l.tell("%s, run %d of %d", p.gives[0].name, n+1, l.runs)
		got, err := l.measureOnce(ctx, p)
		var out *leftOut
		if errors.As(err, &out) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			err = fmt.Errorf("%s, run %d: %w", p.gives[0].name, n+1, err)
			l.tell("%v", err)
			failed = append(failed, err)
			continue
		}
		for i, v := range got {
			l.tell("    %s %.4g %s", p.gives[i].name, v, p.gives[i].unit)
			values[i] = append(values[i], v)
		}
	}
	load.After = loadNow()
	for i, q := range p.gives {
		if len(values[i]) == 0 {
			continue
		}
		if err := newFigure(q, values[i], load, p.ran).write(l.stdout); err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	return errors.Join(failed...)
}

// measureOnce makes one run, and makes it again if the machine stood still meanwhile.
func (l *lab) measureOnce(ctx context.Context, p part) (values []float64, err error) {
	for range voidRuns + 1 {
		var still time.Duration
		if values, still, err = l.attempt(ctx, p); still < stillLimit {
			return values, err
		}
		l.tell("the machine stood still for %v, so this run does not count (%v)", still.Round(time.Millisecond), err)
	}
	return nil, fmt.Errorf("the machine stood still in each of %d runs", voidRuns+1)
}

// attempt makes one run in a folder of its own.
func (l *lab) attempt(ctx context.Context, p part) (values []float64, still time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("a run may take %v", runLimit))
	defer cancel()
	dir, err := os.MkdirTemp(l.dir, "run-")
	if err != nil {
		return nil, 0, fmt.Errorf("folder of the run: %w", err)
	}
	watch := watchClock()
	values, err = p.run(ctx, l, dir)
	still = watch.stop()
	if removeErr := os.RemoveAll(dir); err == nil && removeErr != nil {
		err = fmt.Errorf("remove the run's folder: %w", removeErr)
	}
	return values, still, err
}

func dataFolder(dir string) string { return filepath.Join(dir, "hub") }

// tell prints progress.
func (l *lab) tell(format string, args ...any) {
	fmt.Fprintf(l.stderr, "bench %6.1fs  "+format+"\n", append([]any{time.Since(l.start).Seconds()}, args...)...)
}
