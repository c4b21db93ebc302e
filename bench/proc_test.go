package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestParseCPU(t *testing.T) {
	const after = " S 1 4243 4243 0 -1 4194304 13817 0 0 0 1250 317 900 800 20 0 9 0 123456 1284628480 9417 18446744073709551615"
	for _, name := range []string{"hub", "a b) R (c", ") ) "} {
		got, err := parseCPU([]byte("4242 (" + name + ")" + after))
		if want := 15670 * time.Millisecond; err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "4242 hub S 1", "4242 (hub) S 1 2 3", "4242 (hub)" + strings.Replace(after, "317", "-317", 1)} {
		if got, err := parseCPU([]byte(bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

func TestParseResident(t *testing.T) {
	const status = "Name:\thub\nVmHWM:\t   99999 kB\nVmRSS:\t   38400 kB\nRssAnon:\t   20000 kB\n"
	if got, err := parseResident([]byte(status)); err != nil || got != 38400 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "Name:\tzombie\nState:\tZ (zombie)\n", "VmRSS:\t12 MB\n", "VmRSS:\t-1 kB\n"} {
		if got, err := parseResident([]byte(bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

func TestParseLoad(t *testing.T) {
	if got := parseLoad("2.07 2.26 2.70 2/85 5322\n"); got != 2.07 {
		t.Errorf("got %v", got)
	}
}

// TestOwnProcess reads the real files: those of this process, which uses the processor and memory.
func TestOwnProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is Linux's")
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start, after := time.Now(), before; after < before+2*tick; {
		if after, err = cpuTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("a busy loop of 30 s used no processor: %v, then %v", before, after)
		}
	}
	if rss, err := residentKB(os.Getpid()); err != nil || rss < 1000 || rss > 10e6 {
		t.Errorf("resident memory %v KB, %v", rss, err)
	}
}

func TestParseOnline(t *testing.T) {
	const metrics = "# HELP hub_devices_online Devices with a session.\n# TYPE hub_devices_online gauge\n" +
		"hub_devices_online{transport=\"mqtt\"} 3\nhub_devices_online{transport=\"wss\"} 1.997e+03\nhub_commands_open 7\n"
	if got, err := parseOnline(metrics); err != nil || got != 2000 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := parseOnline(`hub_devices_online{transport="wss"} many`); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}
