package discovery

import "time"

// Admissions are writes to disk, made while the bridge's next message waits.
const (
	paceAtOnce = time.Second // of admissions without a pause
	paceShare  = 5           // beyond them, one part in so many of the time
)

// pace is how much time a bridge has spent on admissions lately.
type pace struct {
	spent time.Duration // above what has been paid back
	until time.Time     // when it was reckoned
}

func (p *pace) payBack(now time.Time) {
	if past := now.Sub(p.until); past > 0 {
		p.spent = max(p.spent-past/paceShare, 0)
	}
	p.until = now
}

// may reports whether there is time for one more.
func (p *pace) may(now time.Time) bool {
	p.payBack(now)
	return p.spent < paceAtOnce
}

// took notes how long one was.
func (p *pace) took(d time.Duration, now time.Time) {
	p.payBack(now)
	p.spent += d
}
