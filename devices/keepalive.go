package devices

import (
	"fmt"
	"math/rand/v2"
	"time"

	"telemetryhub/wire"
)

// The sweeper looks at every connection once in sweepEvery. A silent device is pinged after 0.8 to 1 keepalive (with
// jitter, so that devices that came together do not stay together; a look earlier, so as not to be late) and is gone after goneAfter of it: pings and
// their answers have at least half a keepalive.
const (
	sweepEvery  = time.Second
	pingJitterL = 0.8
	goneAfter   = 1.5
)

func pingJitter() float64 { return pingJitterL + rand.Float64()*(1-pingJitterL) }

func (c *Connector) sweep() {
	defer c.running.Done()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var all []*conn
	for {
		select {
		case <-c.stop:
			return
		case now := <-tick.C:
			c.sessions.look(now)
			all = c.snapshot(all[:0])
			for _, n := range all {
				n.look(now)
			}
			clear(all)
		}
	}
}

// look is the sweeper's look at one connection.
func (n *conn) look(now time.Time) {
	if now.Sub(n.out.born) > readyAfter {
		n.out.ready()
	}
	n.lookConfirmed(now)
	if n.paused.Load() {
		n.session.Hold() // it is we who do not read: its liveness stands still
		n.hub.sessions.holdProbe(n.session, now)
		return
	}
	seen := n.session.seen.Load()
	keepalive := time.Duration(n.keepalive.Load())
	silent := now.Sub(time.UnixMilli(seen))
	switch {
	case silent > time.Duration(goneAfter*float64(keepalive)):
		n.Close(wire.CloseNoPong, fmt.Sprintf("no sign of life for %s", silent.Round(time.Second)))
	case silent > time.Duration(n.pingAfter*float64(keepalive))-sweepEvery && n.pingedAt != seen:
		n.pingedAt, n.pingAfter = seen, pingJitter()
		n.pinged.Store(int32(silent / time.Second))
		n.out.pingNow()
	}
}
