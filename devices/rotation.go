package devices

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"telemetryhub/wire"
)

// Rotation by age: a connected device is offered a new token when two thirds of its token's life are over, with jitter,
// so that devices that were made together are not asked together.
const (
	rotateEvery  = time.Minute     // sessions are looked at; a short lifetime makes it more often
	rotateAtOnce = 8               // devices that are asked at a time
	rotateAgain  = 20              // a device that did not take it is asked again after a 20th of the lifetime
	againAtLeast = 5 * time.Minute // but not before
)

// Run settles offers and rotates tokens by their age, until ctx ends.
func (c *Rotation) Run(ctx context.Context) {
	every := rotateEvery
	if life := c.registry.tokens.Lifetime; life > 0 {
		every = min(every, max(life/30, time.Second))
	}
	look := time.NewTicker(every)
	defer look.Stop()
	var asking sync.WaitGroup
	defer asking.Wait()
	places := make(chan struct{}, rotateAtOnce)
	for {
		select {
		case <-c.wake:
			c.settleAll(ctx)
		case now := <-look.C:
			for _, device := range c.aged(now) {
				select {
				case places <- struct{}{}:
				default: // the rest is found again at the next look
					continue
				}
				asking.Go(func() {
					defer func() { <-places }()
					c.rotateByAge(ctx, device)
				})
			}
			c.settleAll(ctx) // what could not be written before
		case <-ctx.Done():
			return
		}
	}
}

// aged returns the connected devices whose token is to be replaced.
func (c *Rotation) aged(now time.Time) (devices []string) {
	for _, device := range c.sessions.connected() {
		n := c.sessions.session(device)
		if n == nil {
			continue
		}
		p := n.Proved()
		d, _ := c.registry.Get(device)
		i := d.indexToken(p.ID)
		if p.Kind != ProofToken || i < 0 || n.askable() != nil {
			continue
		}
		// One that was confirmed was not used after all, while this one is about to end.
		unused := d.Tokens[i].Final && i+1 < len(d.Tokens) && d.Tokens[len(d.Tokens)-1].Offer != nil
		if unused || c.registry.tokens.isAged(d.Tokens[i], now) {
			c.mu.Lock()
			wait := now.Before(c.again[device])
			c.mu.Unlock()
			if !wait {
				devices = append(devices, device)
			}
		}
	}
	return devices
}

// isAged reports whether two thirds of a token's life are over, and up to a tenth more.
func (c TokenConfig) isAged(t Token, now time.Time) bool {
	if c.Lifetime == 0 {
		return false
	}
	life := c.Lifetime
	if !t.Expires.IsZero() {
		life = t.Expires.Sub(t.Created)
	}
	jitter := time.Duration(binary.BigEndian.Uint16(t.Hash[:])) * (life / 10) >> 16
	return now.Sub(t.Created) > life/3*2+jitter
}

func (c *Rotation) rotateByAge(ctx context.Context, device string) {
	_, outcome, said, err := c.Rotate(ctx, device)
	if outcome == Confirmed {
		return
	}
	if err != nil {
		said = err.Error()
	}
	c.mu.Lock()
	c.again[device] = time.Now().Add(max(c.registry.tokens.Lifetime/rotateAgain, min(againAtLeast, c.registry.tokens.Lifetime/6)))
	for other, then := range c.again { // those that did not come back are not kept
		if time.Since(then) > time.Hour {
			delete(c.again, other)
		}
	}
	c.mu.Unlock()
	if !errors.Is(err, ErrOffline) && ctx.Err() == nil {
		c.log.Warn("a device did not take the token that is to replace its own; it is offered another later", "device", device, "outcome", string(outcome), "said", said)
	}
}

// attached follows a session that has begun.
func (c *Rotation) attached(n *Session) { c.proved(n.Device, n.Proof) }

// Used notes that the device has proved itself without a connection, as for one HTTP request.
func (c *Rotation) Used(device string, p Proof) {
	c.sessions.Used(device, p.ID)
	c.proved(device, p)
}

// proved does not wait: the first use of a token is written soon, and until then those before it are good as well.
func (c *Rotation) proved(device string, p Proof) {
	if p.Kind == ProofToken && !p.Renewal && c.registry.isOffered(device, p.ID) {
		c.queue(offer{device, p.ID}, settledUsed)
	}
}

// late takes an answer that nobody waits for any more.
func (c *Rotation) late(n *Session, token string, a wire.Answer) {
	d, _ := c.registry.Get(n.Device)
	t, ok := d.token(token)
	switch {
	case !ok || t.Offer == nil:
		return
	case a.Fault != nil:
		c.queue(offer{n.Device, token}, settledRefused)
		return
	}
	n.prove(Proof{Kind: ProofToken, ID: token, Expires: t.Offer.Expires})
	c.queue(offer{n.Device, token}, settledConfirmed)
}

// queue holds as many entries as there are devices with offers, and a few more.
func (c *Rotation) queue(o offer, as settled) {
	c.mu.Lock()
	c.due[o] = max(c.due[o], as)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Rotation) settleAll(ctx context.Context) {
	c.mu.Lock()
	due := c.due
	c.due = map[offer]settled{}
	c.mu.Unlock()
	for o, as := range due {
		if !c.settle(ctx, o, as) {
			c.mu.Lock()
			c.due[o] = max(c.due[o], as)
			c.mu.Unlock()
		}
	}
}

// settle writes what became of an offered token and reports whether there is nothing more to do.
func (c *Rotation) settle(ctx context.Context, o offer, as settled) bool {
	var err error
	switch as {
	case settledUsed:
		err = c.registry.useToken(ctx, o.device, o.token)
	case settledConfirmed:
		_, err = c.registry.confirmToken(ctx, o.device, o.token)
	case settledRefused:
		err = c.registry.RevokeToken(ctx, o.device, o.token)
	}
	if err == nil || errors.Is(err, errSettled) || errors.Is(err, ErrNoCredential) || errors.Is(err, ErrNotFound) {
		return true
	}
	c.log.Warn("what became of an offered token could not be written; it is tried again", "device", o.device, "token", o.token, "err", err)
	return false
}
