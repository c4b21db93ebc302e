package ingest

import (
	"fmt"
	"maps"
	"slices"
)

// Counts is what became of a device's readings. An unusable frame counts as one received and one refused.
type Counts struct {
	Received    uint64            `json:"received"`
	Stored      uint64            `json:"stored"`
	Duplicate   uint64            `json:"duplicate"`
	Quarantined uint64            `json:"quarantined"`
	Queued      uint64            `json:"queued"`
	Refused     map[string]uint64 `json:"refused,omitempty"` // by reason
}

// Check returns an error unless received = stored + duplicate + quarantined + queued + refused.
func (c Counts) Check() error {
	sum := c.Stored + c.Duplicate + c.Quarantined + c.Queued
	for _, n := range c.Refused {
		sum += n
	}
	if sum != c.Received {
		return fmt.Errorf("received %d, but the rest adds up to %d: %+v", c.Received, sum, c)
	}
	return nil
}

func (c *Counts) add(o Counts) {
	c.Received += o.Received
	c.Stored += o.Stored
	c.Duplicate += o.Duplicate
	c.Quarantined += o.Quarantined
	c.Queued += o.Queued
	for reason, n := range o.Refused {
		c.refuse(reason, n)
	}
}

func (c Counts) clone() Counts {
	c.Refused = maps.Clone(c.Refused)
	return c
}

// account is what the writer knows of one device: a pure function of the journal up to the writer's position.
type account struct {
	Counts
	Boots []numbers `json:"boots,omitempty"` // the one used last at the end

	Clock int64 `json:"clock,omitempty"` // the last time that the hub gave a reading without one, Unix ms

	Top int64 `json:"top,omitempty"` // the latest time of its readings, Unix ms

	device string
	asOf   uint64 // the journal's sequence up to which it was saved; envelopes up to it are counted already
	batch  Counts // what the batch at hand adds to Counts
}

// judge says whether reading seq of boot is new. Readings without a number or a boot are new each time.
func (a *account) judge(boot []byte, seq uint64) verdict {
	if seq == 0 || len(boot) == 0 {
		return isNew
	}
	last := len(a.Boots) - 1
	if last >= 0 && a.Boots[last].Boot == string(boot) {
		return a.Boots[last].take(seq)
	}
	n := numbers{Boot: string(boot)}
	if i := slices.IndexFunc(a.Boots, func(o numbers) bool { return o.Boot == n.Boot }); i >= 0 {
		n = a.Boots[i]
		a.Boots = slices.Delete(a.Boots, i, i+1)
	} else if len(a.Boots) == maxBoots {
		a.Boots = slices.Delete(a.Boots, 0, 1)
	}
	a.Boots = append(a.Boots, n)
	return a.Boots[len(a.Boots)-1].take(seq)
}

// bootOf returns boot as the text that is already there, where it is.
func (a *account) bootOf(boot []byte) string {
	if n := len(a.Boots); n > 0 && a.Boots[n-1].Boot == string(boot) {
		return a.Boots[n-1].Boot
	}
	return string(boot)
}

func (c *Counts) refuse(reason string, n uint64) {
	if c.Refused == nil {
		c.Refused = map[string]uint64{}
	}
	c.Refused[reason] += n
}
