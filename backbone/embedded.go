package backbone

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"telemetryhub/backbone/mend"
)

// embedded is the server in the process. A server whose store failed to write is of no use until it is started again,
// so it is, once there is room; what it had acknowledged is on disk, and its clients connect again.
type embedded struct {
	options server.Options
	room    *room
	log     *slog.Logger
	failed  chan struct{} // a store could not be written
	fatal   chan error    // and only a new process helps

	mu      sync.Mutex // held while a server starts, which takes minutes where there is much to read
	server  *server.Server
	stopped bool

	damageMu sync.Mutex
	damage   Damage // that was found at all starts of this process

	stop chan struct{}
	done chan struct{}
}

func startEmbedded(options server.Options, r *room, log *slog.Logger) (*embedded, error) {
	e := &embedded{
		options: options, room: r, log: log, damage: Damage{Restored: map[string]uint64{}, Lost: map[string]uint64{}},
		failed: make(chan struct{}, 1), fatal: make(chan error, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := e.start(); err != nil {
		return nil, err
	}
	go e.heal()
	return e, nil
}

// start starts a server and makes it the current one.
func (e *embedded) start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return errors.New("the nats server is being stopped")
	}
	if err := e.mend(); err != nil {
		return err
	}
	options := e.options // a server writes into its own
	s, err := server.NewServer(&options)
	if err != nil {
		return fmt.Errorf("make the nats server: %w", err)
	}
	s.SetLoggerV2(&serverLog{log: e.log, failed: e.failed}, false, false, false)
	s.Start()
	switch {
	case !s.ReadyForConnections(startTimeout):
		err = fmt.Errorf("the nats server was not ready within %s", startTimeout)
	case !s.JetStreamEnabled():
		err = fmt.Errorf("jetstream did not start in %s; the log says why", e.options.StoreDir)
	}
	if err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return err
	}
	e.server = s
	return nil
}

// Damage is what was damaged on the disk within the files of the server in the process, in records (envelopes, or values
// of a bucket) by stream. A bucket's stream is KV_ and its name.
type Damage struct {
	Restored map[string]uint64 // put right
	Lost     map[string]uint64
}

// damagedFolder holds copies of damaged files, below the server's.
const damagedFolder = "damaged"

// mend puts the files in order before a server reads them: it would cut them off at the first damage. It needs mu.
func (e *embedded) mend() error {
	began := time.Now()
	report, err := mend.Store(e.options.StoreDir, filepath.Join(e.options.StoreDir, damagedFolder), subjects(), e.log)
	if err != nil {
		return fmt.Errorf("look for damage in the journal and the buckets: %w", err)
	}
	e.damageMu.Lock()
	defer e.damageMu.Unlock()
	for stream, n := range report.Restored {
		e.damage.Restored[stream] += n
	}
	for stream, n := range report.Erased {
		e.damage.Lost[stream] += n
	}
	if len(report.Restored)+len(report.Erased) > 0 {
		e.log.Warn("files were damaged on the disk and have been mended", "restored", report.Restored, "lost", report.Erased)
	}
	e.log.Debug("the journal and the buckets were looked through for damage", "mib", report.Read>>20, "took", time.Since(began))
	return nil
}

// Damage is what was found damaged on the disk, at each start of the server in the process. It is empty with an external NATS.
func (b *Backbone) Damage() Damage {
	if b.server == nil {
		return Damage{}
	}
	b.server.damageMu.Lock()
	defer b.server.damageMu.Unlock()
	return Damage{Restored: maps.Clone(b.server.damage.Restored), Lost: maps.Clone(b.server.damage.Lost)}
}

// LostEnvelopes returns what was left of envelopes that were damaged on the disk and could not be put right, in the order of the
// journal, each with NATS's own bytes around it. They are returned at each start until named is called.
func (b *Backbone) LostEnvelopes() (left [][]byte, named func() error, err error) {
	if b.server == nil {
		return nil, nil, nil
	}
	notes, err := mend.Notes(filepath.Join(b.server.options.StoreDir, damagedFolder), Journal)
	if err != nil {
		return nil, nil, fmt.Errorf("look for what was left of damaged envelopes: %w", err)
	}
	var read []mend.Note
	for _, n := range notes {
		pieces, err := n.Read()
		if err != nil { // the disk damages copies too: that stops no hub
			b.server.log.Error("what was left of damaged envelopes cannot be read; it is tried again at the next start", "err", err)
			continue
		}
		left, read = append(left, pieces...), append(read, n)
	}
	return left, func() (err error) {
		for _, n := range read {
			err = errors.Join(err, n.Remove())
		}
		return err
	}, nil
}

// InProcessConn implements nats.InProcessConnProvider: a connection to the current server.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	s := e.server
	e.mu.Unlock()
	if s == nil {
		return nil, errors.New("the nats server is being started again")
	}
	return s.InProcessConn()
}

// How often a server that failed is looked at, and how long it is left alone after it was started again: whatever is
// wrong with the disk, starting does not become a load of its own.
const (
	healEvery = time.Second
	healPause = 10 * time.Second
)

// heal starts the server again after its store failed, when there is room, until stop.
func (e *embedded) heal() {
	defer close(e.done)
	for {
		select {
		case <-e.failed:
		case <-e.stop:
			return
		}
		e.log.Error("the journal's engine failed to write; it is started again as soon as the disk has room")
		for again := false; !again; {
			if !e.pause(healEvery) {
				return
			}
			again = e.room.check() == nil && e.restart()
		}
		if !e.pause(healPause) {
			return
		}
	}
}

func (e *embedded) restart() bool {
	e.mu.Lock()
	old := e.server
	e.server = nil
	e.mu.Unlock()
	if old != nil && !e.shutDown(old) {
		return false
	}
	select { // what the old one said is settled
	case <-e.failed:
	default:
	}
	if err := e.start(); err != nil {
		e.log.Error("the journal's engine does not start; it is tried again", "err", err)
		return false
	}
	e.log.Info("the journal's engine was started again")
	return true
}

// shutdownTimeout bounds how long a failed server may take to stop. One whose stream has locked itself up never does.
const shutdownTimeout = 30 * time.Second

// shutDown stops a failed server; one that does not stop can only be ended with the process, which it says.
func (e *embedded) shutDown(old *server.Server) bool {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		old.Shutdown()
		old.WaitForShutdown()
	}()
	select {
	case <-gone:
		return true
	case <-time.After(shutdownTimeout):
		e.fatal <- fmt.Errorf("the journal's engine failed to write and does not stop within %s; only a new process helps", shutdownTimeout)
		<-e.stop
		return false
	}
}

// pause returns false when the server is to be stopped.
func (e *embedded) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-e.stop:
		return false
	}
}

// close stops the server and waits for its files to be closed.
func (e *embedded) close() {
	e.mu.Lock()
	again := e.stopped
	e.stopped = true
	e.mu.Unlock()
	if !again {
		close(e.stop)
	}
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
}
