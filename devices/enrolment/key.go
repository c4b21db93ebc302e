package enrolment

import (
	"slices"
	"time"

	"telemetryhub/auth"
	"telemetryhub/devices"
)

// Key is one enrolment key as its bucket has it.
type Key struct {
	ID string `json:"id"`
	Terms
	Enabled  bool      `json:"enabled"`
	Created  time.Time `json:"created"`
	Actor    string    `json:"actor"` // the operator who made it
	Hash     auth.Hash `json:"hash"`
	Used     int       `json:"used"` // devices that it enrolled, and claims
	LastUsed time.Time `json:"last_used,omitzero"`
	Claims   []claim   `json:"claims,omitempty"`
}

// claim is a device that is counted and perhaps not yet made.
type claim struct {
	Device string    `json:"device"`
	At     time.Time `json:"at"` // also in the device's record: it tells who made it
}

// claimLife is how long a claim without a device counts. Making the device is given up long before.
const (
	claimLife  = time.Minute
	enrolLimit = 20 * time.Second // of one enrolment, from the claim to the token
)

// maxClaims bounds the enrolments of one key at one time; a record with all of them is far below the 1 MiB of a
// message of NATS.
const maxClaims = 2048

// settle drops the claims whose devices were made, and takes back those that nobody will make. It reports whether
// anything changed.
func (k *Key) settle(registry Registry, now time.Time) bool {
	before := len(k.Claims)
	k.Claims = slices.DeleteFunc(slices.Clone(k.Claims), func(c claim) bool {
		switch {
		case c.made(registry, k.ID):
			return true
		case now.Sub(c.At) > claimLife:
			k.Used--
			return true
		}
		return false
	})
	return len(k.Claims) != before
}

func (c claim) made(registry Registry, key string) bool {
	d, ok := registry.Get(c.Device)
	return ok && d.Enrolled != nil && d.Enrolled.Key == key && d.Enrolled.At.Equal(c.At)
}

// claim counts a device that is about to be made.
func (k *Key) claim(c claim) *devices.EnrolError {
	switch {
	case k.Used >= k.Limit:
		e := refusal(reasonExhausted, "the key has enrolled all the %d devices that it is for", k.Limit)
		if len(k.Claims) > 0 { // one of them may yet be taken back
			e.RetryAfter = claimLife
		}
		return e
	case len(k.Claims) >= maxClaims:
		return unavailable("%d devices enrol with this key at the same time", len(k.Claims))
	}
	k.Used++
	k.LastUsed = c.At
	k.Claims = append(k.Claims, c)
	return nil
}

// release takes a claim back whose device surely was not made.
func (k *Key) release(c claim) {
	i := slices.IndexFunc(k.Claims, func(have claim) bool { return have.Device == c.Device && have.At.Equal(c.At) })
	if i >= 0 {
		k.Claims = slices.Delete(k.Claims, i, i+1)
		k.Used--
	}
}

// standing refuses what nobody may use now, whoever asks.
func (k *Key) standing(now time.Time) *devices.EnrolError {
	switch {
	case !k.Enabled:
		return refusal(reasonDisabled, "the enrolment key is disabled")
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return refusal(reasonExpired, "the enrolment key expired on %s", k.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// View is a key as operators see it.
type View struct {
	Key
	Left    int               // devices that it may still enrol
	Refused map[string]uint64 // requests by reason, since the hub was started
}

// State says in a word whether the key is of use.
func (v View) State() string {
	switch e := v.standing(time.Now()); {
	case e != nil && e.Reason == reasonDisabled:
		return "disabled"
	case e != nil:
		return "expired"
	case v.Left == 0:
		return "exhausted"
	}
	return "active"
}
