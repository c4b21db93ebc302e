package commands

import (
	"errors"
	"fmt"
	"time"
)

// Fixed bounds.
const (
	MaxOpen      = 50_000    // commands that are open, or ended and not yet written
	MaxOpenBytes = 256 << 20 // bytes of the params of these
	MaxResult    = 256 << 10 // bytes of a device's result or error that are kept
	MirrorBytes  = 64 << 20  // bytes of ended commands in memory, about
	MaxArchived  = 1_000_000 // ended commands beyond these that lists find, at 100 bytes of memory each
	MaxMethod    = 128       // bytes of a method's name
	MaxKey       = 128       // bytes of an Idempotency-Key
)

// Bounds of a Config.
const (
	LongestTimeout  = time.Hour
	ShortestKeep    = time.Hour
	LongestKeep     = 365 * 24 * time.Hour // the bucket itself forgets after 366 days
	LargestParams   = 512 << 10            // with MaxResult below the 1 MiB that a NATS message holds
	LargestQueue    = 10_000
	MostOutstanding = 100
)

// Config holds what an operator sets. Zero values take the defaults.
type Config struct {
	Timeout     time.Duration `yaml:"timeout"`     // for a device's answer, if the request names none
	Expires     time.Duration `yaml:"expires"`     // latest start of a command, if the request names none
	Keep        time.Duration `yaml:"keep"`        // how long ended commands are kept
	MaxParams   int           `yaml:"max_params"`  // bytes of a command's params
	Queue       int           `yaml:"queue"`       // commands that wait for one device
	Outstanding int           `yaml:"outstanding"` // commands that one device was sent and has not answered

	Batch     Batch         `yaml:"-"` // writes many records in one commit; nil: one by one
	Catalogue Catalogue     `yaml:"-"` // what devices take; nil: everything
	Recorded  func(Command) `yaml:"-"` // told of each new command once it is durable; it must not wait; nil: nobody
}

// Defaults returns the configuration of a hub that configures nothing.
func Defaults() Config {
	return Config{Timeout: 30 * time.Second, Expires: 24 * time.Hour, Keep: 30 * 24 * time.Hour, MaxParams: 64 << 10, Queue: 100, Outstanding: 1}
}

func (c Config) withDefaults() Config {
	d := Defaults()
	if c.Timeout == 0 {
		c.Timeout = d.Timeout
	}
	if c.Expires == 0 {
		c.Expires = d.Expires
	}
	if c.Keep == 0 {
		c.Keep = d.Keep
	}
	if c.MaxParams == 0 {
		c.MaxParams = d.MaxParams
	}
	if c.Queue == 0 {
		c.Queue = d.Queue
	}
	if c.Outstanding == 0 {
		c.Outstanding = d.Outstanding
	}
	return c
}

// Validate reports every wrong value, each named by its key.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Timeout < time.Millisecond || c.Timeout > LongestTimeout {
		errs = append(errs, fmt.Errorf("timeout: %v is not between 1ms and %v", c.Timeout, LongestTimeout))
	}
	if c.Keep < ShortestKeep || c.Keep > LongestKeep {
		errs = append(errs, fmt.Errorf("keep: %v is not between %v and %v", c.Keep, ShortestKeep, LongestKeep))
	}
	if c.Expires < time.Millisecond || c.Expires > c.Keep {
		errs = append(errs, fmt.Errorf("expires: %v is not between 1ms and keep (%v)", c.Expires, c.Keep))
	}
	if c.MaxParams < 2 || c.MaxParams > LargestParams {
		errs = append(errs, fmt.Errorf("max_params: %d is not between 2 and %d bytes", c.MaxParams, LargestParams))
	}
	if c.Queue < 1 || c.Queue > LargestQueue {
		errs = append(errs, fmt.Errorf("queue: %d is not between 1 and %d commands", c.Queue, LargestQueue))
	}
	if c.Outstanding < 1 || c.Outstanding > MostOutstanding {
		errs = append(errs, fmt.Errorf("outstanding: %d is not between 1 and %d commands", c.Outstanding, MostOutstanding))
	}
	return errors.Join(errs...)
}
