package mend

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// engine is a real nats-server on a folder.
type engine struct {
	*testing.T
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
}

func start(t *testing.T, dir string) *engine {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "test", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	e := &engine{T: t, server: s}
	t.Cleanup(e.stop)
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not start")
	}
	if e.conn, err = nats.Connect("", nats.InProcessServer(s)); err != nil {
		t.Fatal(err)
	}
	if e.js, err = jetstream.New(e.conn); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *engine) stop() {
	if e.conn != nil {
		e.conn.Close()
	}
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// create makes a stream whose subjects begin with its name.
func (e *engine) create(name string) jetstream.Stream {
	e.Helper()
	s, err := e.js.CreateOrUpdateStream(e.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	if err != nil {
		e.Fatal(err)
	}
	return s
}

func (e *engine) publish(subject, data string, headers nats.Header) uint64 {
	e.Helper()
	ack, err := e.js.PublishMsg(e.Context(), &nats.Msg{Subject: subject, Data: []byte(data), Header: headers})
	if err != nil {
		e.Fatal(err)
	}
	return ack.Sequence
}

// messages is what a stream gives, by sequence; "" is what it does not give.
func (e *engine) messages(name string, most uint64) []string {
	e.Helper()
	s, err := e.js.Stream(e.Context(), name)
	if err != nil {
		e.Fatal(err)
	}
	all := make([]string, most+1)
	for sequence := uint64(1); sequence <= most; sequence++ {
		msg, err := s.GetMsg(e.Context(), sequence)
		if err == nil {
			all[sequence] = fmt.Sprint(msg.Subject, msg.Header, string(msg.Data))
			continue
		}
		if _, answered := errors.AsType[*jetstream.APIError](err); !answered && !errors.Is(err, jetstream.ErrMsgNotFound) {
			e.Fatal(err)
		}
	}
	return all
}

const inEach = 6 // messages of each stream of a crowd

// crowd is a store of many small streams, as a kill leaves it, so that one start of a server tries much damage.
func crowd(t *testing.T, streams int, inOrder bool) (dir string) {
	live := t.TempDir()
	e := start(t, live)
	for i := range streams {
		name := crowdName(i)
		s := e.create(name)
		for n := range inEach {
			var headers nats.Header
			if n%2 == 1 {
				headers = nats.Header{"Nats-Msg-Id": {fmt.Sprint("id", n)}}
			}
			e.publish(fmt.Sprintf("%s.%d", name, n), fmt.Sprintf("what message %d says", n), headers)
			if n == 3 {
				if err := s.DeleteMsg(t.Context(), 2); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if inOrder {
		e.stop()
		return live
	}
	return copied(t, live)
}

func crowdName(i int) string { return fmt.Sprintf("S%03d", i) }
func crowdBlock(dir string, i int) string {
	return filepath.Join(dir, "jetstream", "$G", "streams", crowdName(i), "msgs", "1.blk")
}

// crowdSubjects are those of a crowd's messages.
func crowdSubjects() map[string]Subjects {
	all := map[string]Subjects{}
	for i := range 1000 {
		s := Subjects{Prefix: crowdName(i) + "."}
		for n := range inEach {
			s.Whole = append(s.Whole, fmt.Sprint(s.Prefix, n))
		}
		all[crowdName(i)] = s
	}
	return all
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, dir string) Report {
	t.Helper()
	r, err := Store(dir, filepath.Join(dir, "damaged"), crowdSubjects(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// extents are where the records of a block begin, and its end.
func extents(data []byte) (all []int) {
	at := 0
	for ; at < len(data); at += record(data[at:]).length() {
		all = append(all, at)
	}
	return append(all, at)
}

// Any bit of any byte, one at a time, after a kill and after a stop in order: everything is there again as it was, and
// numbers go on.
func TestOneFlippedBitCostsNothing(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped in order %v", inOrder), func(t *testing.T) {
			const streams = 128
			pristine := crowd(t, streams, inOrder)
			size := len(read(t, crowdBlock(pristine, 0)))
			for first := 0; first < size; first += streams {
				dir := copied(t, pristine)
				for i := range streams {
					data := read(t, crowdBlock(dir, i))
					at := min(first+i, size-1)
					data[at] ^= 1 << rand.IntN(8)
					write(t, crowdBlock(dir, i), data)
				}
				look(t, dir)
				e := start(t, dir)
				for i := range streams {
					at := min(first+i, size-1)
					checkMended(e, pristine, i, at)
				}
				e.stop()
			}
		})
	}
}

// checkMended reads a stream of the crowd after a bit of byte at was flipped.
func checkMended(e *engine, pristine string, i, at int) {
	e.Helper()
	data := read(e.T, crowdBlock(pristine, i))
	ends := extents(data)
	which := slices.IndexFunc(ends, func(end int) bool { return end > at }) - 1
	got := e.messages(crowdName(i), inEach)
	for n := range inEach {
		headers := nats.Header(nil)
		if n%2 == 1 {
			headers = nats.Header{"Nats-Msg-Id": {fmt.Sprint("id", n)}}
		}
		want := fmt.Sprint(fmt.Sprintf("%s.%d", crowdName(i), n), headers, fmt.Sprintf("what message %d says", n))
		if n == 1 {
			want = "" // it was deleted
		}
		if got[n+1] == want {
			continue
		}
		e.Errorf("byte %d, the %dth of record %d: message %d is %q, want %q", at, at-ends[which], which, n+1, got[n+1], want)
	}
	if sequence := e.publish(crowdName(i)+".more", "more", nil); sequence != inEach+1 {
		e.Errorf("byte %d: the next message has sequence %d", at, sequence)
	}
}

// Whatever happens to a piece of a block: what is outside of it is there as it was, and nothing is there that was not.
func TestDamageCostsNoMoreThanItTouches(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped in order %v", inOrder), func(t *testing.T) {
			const streams = 100
			dir := crowd(t, streams, inOrder)
			type damage struct{ at, to int }
			damages := make([]damage, streams)
			before := make([][]byte, streams)
			for i := range streams {
				data := read(t, crowdBlock(dir, i))
				before[i] = bytes.Clone(data)
				d := damage{at: rand.IntN(len(data))}
				d.to = min(len(data), d.at+1+rand.IntN(120))
				for at := d.at; at < d.to; at++ {
					data[at] = byte(rand.IntN(256)) >> (i % 3 * 3) // noise, small numbers, nearly all zero
				}
				damages[i] = d
				write(t, crowdBlock(dir, i), data)
			}
			look(t, dir)
			e := start(t, dir)
			for i, d := range damages {
				checkAround(e, before[i], i, d.at, d.to)
			}
		})
	}
}

func checkAround(e *engine, before []byte, i, from, to int) {
	e.Helper()
	ends := extents(before)
	got := e.messages(crowdName(i), inEach)
	last, deleted := uint64(0), false
	for which := range len(ends) - 1 {
		r := record(before[ends[which]:ends[which+1]])
		touched := ends[which] < to && ends[which+1] > from
		if r.removal() {
			deleted = !touched
			continue
		}
		// Without a stop in order, a last record whose length is spoilt may look as if it had not been written whole.
		length := which == len(ends)-2 && from < ends[which]+sequenceAt && to > ends[which]
		if !touched || to < len(before) && !length {
			last = max(last, r.sequence())
		}
		n := int(r.sequence()) - 1
		want := fmt.Sprintf("what message %d says", n)
		switch at := got[n+1]; {
		case !touched && n != 1 && !bytes.HasSuffix([]byte(at), []byte(want)):
			e.Errorf("stream %d, damage %d-%d of %d: message %d at %d-%d is %q", i, from, to, len(before), n+1, ends[which], ends[which+1], at)
		case at != "" && !bytes.HasSuffix([]byte(at), []byte(want)) && (from >= ends[which]+subjectAt || to <= ends[which]+subjectLengthAt):
			e.Errorf("stream %d, damage %d-%d of %d: message %d came back as %q", i, from, to, len(before), n+1, at)
		}
	}
	if deleted && got[2] != "" {
		e.Errorf("stream %d, damage %d-%d: what was deleted is there: %q", i, from, to, got[2])
	}
	if sequence := e.publish(crowdName(i)+".more", "more", nil); sequence <= last {
		e.Errorf("stream %d, damage %d-%d of %d: sequence %d is given out again", i, from, to, len(before), sequence)
	}
}
