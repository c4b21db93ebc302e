package ingest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
)

var errFlaky = errors.New("flaky on purpose")

// flakyBus is a NATS that fails when it is told to.
type flakyBus struct {
	*backbone.Backbone
	failEvery atomic.Int64 // so many reads of the journal, the next fails; 0: none
	reads     atomic.Int64
	publish   atomic.Pointer[func(ctx context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error)]
}

func (b *flakyBus) onPublish(f func(ctx context.Context, forward func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error)) {
	b.publish.Store(&f)
}

func (b *flakyBus) JetStream() jetstream.JetStream { return flakyJetStream{b.Backbone.JetStream(), b} }

type flakyJetStream struct {
	jetstream.JetStream
	bus *flakyBus
}

func (j flakyJetStream) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	forward := func() (*jetstream.PubAck, error) { return j.JetStream.PublishMsg(ctx, msg, opts...) }
	if f := j.bus.publish.Load(); f != nil && msg.Subject == backbone.JournalSubject {
		return (*f)(ctx, forward)
	}
	return forward()
}

func (j flakyJetStream) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := j.JetStream.Stream(ctx, name)
	return flakyStream{s, j.bus}, err
}

type flakyStream struct {
	jetstream.Stream
	bus *flakyBus
}

func (s flakyStream) OrderedConsumer(ctx context.Context, cfg jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	c, err := s.Stream.OrderedConsumer(ctx, cfg)
	return flakyConsumer{c, s.bus}, err
}

type flakyConsumer struct {
	jetstream.Consumer
	bus *flakyBus
}

func (c flakyConsumer) Messages(opts ...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	m, err := c.Consumer.Messages(opts...)
	return flakyMessages{m, c.bus}, err
}

type flakyMessages struct {
	jetstream.MessagesContext
	bus *flakyBus
}

func (m flakyMessages) Next(opts ...jetstream.NextOpt) (jetstream.Msg, error) {
	msg, err := m.MessagesContext.Next(opts...)
	if every := m.bus.failEvery.Load(); err == nil && every > 0 && m.bus.reads.Add(1)%every == 0 {
		return nil, errFlaky // and the message is lost with it
	}
	return msg, err
}
