package backbone

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says which NATS. With an empty URL it is a server in the process that keeps its files in Dir.
type Config struct {
	Dir             string
	MaxStore        int64         // bytes on disk that the server in the process may use; 0: the journal's and 16 GiB for the rest
	JournalMaxBytes int64         // bytes of the journal; 0: DefaultJournalMaxBytes
	ActsMaxBytes    int64         // bytes of the audit log; 0: DefaultActsMaxBytes
	ActsKeep        time.Duration // how long it keeps an act; 0: DefaultActsKeep
	Reserve         int64         // bytes of the disk that envelopes leave free; 0: 64 MiB or 2 % of it, whichever is more

	URL             string // of an external NATS
	CredentialsFile string // its user's credentials, may be empty
	CAFile          string // who signed its certificate; empty: the system's CAs
}

// DefaultJournalMaxBytes bounds the journal unless it is configured.
const DefaultJournalMaxBytes = 16 << 30

// besideJournal is what the server in the process may use beside the journal, so that a full one leaves room for
// commands, the registry and the quarantine.
const besideJournal = 16 << 30

// envelopeMax is the largest message of the server in the process. An external NATS has 1 MiB by default.
const envelopeMax = 8 << 20

// startTimeout bounds how long a NATS may take to answer first.
const startTimeout = 30 * time.Second

// Backbone is an open NATS.
type Backbone struct {
	server *embedded // nil with an external NATS
	room   room
	conn   *nats.Conn
	js     jetstream.JetStream
}

// Open starts or connects NATS and declares the streams and buckets. An error leaves nothing running.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Backbone, error) {
	b := &Backbone{}
	if err := b.open(ctx, cfg, log); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Backbone) open(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if cfg.URL == "" {
		err = b.startServer(cfg, log)
	} else {
		err = b.connect(cfg, log)
	}
	if err != nil {
		return err
	}
	js, err := jetstream.New(b.conn)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	b.js = roomyJetStream{js, &b.room}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return declare(ctx, b.js, cfg)
}

func (b *Backbone) startServer(cfg Config, log *slog.Logger) (err error) {
	maxStore := cmp.Or(cfg.MaxStore, cmp.Or(cfg.JournalMaxBytes, DefaultJournalMaxBytes)+besideJournal)
	b.room.dir, b.room.reserve = cfg.Dir, cfg.Reserve
	b.server, err = startEmbedded(server.Options{
		ServerName:         "telemetryhub",
		DontListen:         true,
		JetStream:          true,
		StoreDir:           cfg.Dir,
		SyncAlways:         true,
		JetStreamMaxStore:  maxStore,
		JetStreamMaxMemory: 256 << 20,
		MaxPayload:         envelopeMax,
		NoSigs:             true,
	}, &b.room, log.With("part", "nats"))
	if err != nil {
		return err
	}
	// A server that is started again is back within some hundredths of a second.
	const reconnectWait = 100 * time.Millisecond
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait))
	if err != nil {
		return fmt.Errorf("connect to the nats server in the process: %w", err)
	}
	return nil
}

func (b *Backbone) connect(cfg Config, log *slog.Logger) (err error) {
	opts := []nats.Option{
		nats.Name("telemetryhub"), nats.MaxReconnects(-1), nats.Timeout(startTimeout),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("nats disconnected", "err", err) }),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("nats connected again", "url", c.ConnectedUrlRedacted()) }),
	}
	if cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return fmt.Errorf("read nats.ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("nats.ca_file %s holds no certificate", cfg.CAFile)
		}
		opts = append(opts, nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	if b.conn, err = nats.Connect(cfg.URL, opts...); err != nil {
		return fmt.Errorf("connect to nats at %s: %w", cfg.URL, err)
	}
	return nil
}

// JetStream is where streams are published to and read from.
func (b *Backbone) JetStream() jetstream.JetStream { return b.js }

// Bucket returns a bucket that Open declared.
func (b *Backbone) Bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := b.js.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	return kv, nil
}

// MaxMessage is the size in bytes of the largest message that NATS takes.
func (b *Backbone) MaxMessage() int { return int(b.conn.MaxPayload()) }

// Check reports whether NATS answers.
func (b *Backbone) Check(ctx context.Context) error {
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("jetstream does not answer: %w", err)
	}
	return nil
}

// Failed gives the error after which only a new process helps. It is nil with an external NATS.
func (b *Backbone) Failed() <-chan error {
	if b.server == nil {
		return nil
	}
	return b.server.fatal
}

// Close ends the connection and the server in the process, and waits for its files to be closed.
func (b *Backbone) Close() error {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.close()
	}
	return nil
}
