package mend

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const blockOf = "FUZZ"

func fuzzed() proof {
	return proof{hash: newHash(blockOf, 1), subjects: Subjects{Prefix: "fuzz.", Whole: []string{"fuzz.a"}}}
}

// written is a block of records as the server writes them.
func written(payloads ...string) []byte { return writtenUnder("fuzz.a", payloads...) }

func writtenUnder(subject string, payloads ...string) (data []byte) {
	h := newHash(blockOf, 1)
	for i, p := range payloads {
		r := make(record, recordLeast+len(subject)+len(p))
		r.setLength(false)
		binary.LittleEndian.PutUint64(r[sequenceAt:], uint64(i+1))
		binary.LittleEndian.PutUint64(r[timeAt:], uint64(time.Now().UnixNano()))
		r.setSubjectLength(len(subject))
		copy(r[subjectAt:], subject+p)
		copy(r.checksum(), sum(h, r[sequenceAt:subjectLengthAt], r.body()))
		data = append(data, r...)
	}
	return data
}

func mended(data []byte, sealed uint64) *block {
	b := &block{proof: fuzzed(), data: bytes.Clone(data), left: &effort{bits: 1e8, search: 1e8}, sealed: sealed}
	b.mend()
	return b
}

// FuzzBlock gives the scanner anything: all of what it leaves can be read to where it is torn, also when it was interrupted
// while it wrote that, and it finds nothing more to do.
func FuzzBlock(f *testing.F) {
	whole := written("one", `{"two":2}`, "", string(make([]byte, 300)), "five")
	f.Add(whole, uint64(0), 10)
	f.Add(whole[:len(whole)-3], uint64(0), 100)
	f.Add(append(bytes.Clone(whole), make([]byte, 64)...), uint64(5), 5)
	for range 20 {
		spoilt := bytes.Clone(whole)
		at := rand.IntN(len(spoilt) - 20)
		for i := range 1 + rand.IntN(20) {
			spoilt[at+i] = byte(rand.IntN(256))
		}
		f.Add(spoilt, uint64(0), at)
		f.Add(spoilt, uint64(5), at)
	}
	f.Fuzz(func(t *testing.T, data []byte, sealed uint64, cut int) {
		sealed %= sequenceMost
		b := mended(data, sealed)
		checkReadable(t, b)
		if again := mended(b.data[:len(b.data)-b.torn], 0); len(again.changes) > 0 || again.torn > 0 {
			t.Errorf("mended once more: %+v, torn %d", again.changes, again.torn)
		}
		if len(data) > 0 && len(b.changes) > 0 {
			cut = max(0, min(cut, len(data)))
			checkReadable(t, mended(append(bytes.Clone(b.data[:cut]), data[cut:]...), sealed))
		}
	})
}

func checkReadable(t *testing.T, b *block) {
	t.Helper()
	if b.torn > 0 && b.sealed > 0 && b.torn >= recordLeast {
		t.Errorf("%d bytes are torn at the end of a block that was written to its end", b.torn)
	}
	at, last := 0, uint64(0)
	for at < len(b.data)-b.torn {
		r := b.whole(at)
		if r == nil {
			t.Fatalf("nothing can be read at %d of %d, torn %d, changes %+v", at, len(b.data), b.torn, b.changes)
		}
		if s := r.sequence(); !r.removal() && s > 0 {
			for _, c := range b.changes {
				if c.at == at && !c.restored && s <= last {
					t.Errorf("erased at %d under sequence %d, behind %d", at, s, last)
				}
			}
			last = max(last, s)
		}
		at += len(r)
	}
}

// Every pair of bytes of a block, spoilt at once: no record that was not touched is gone, in a search that has no server to ask.
func TestNeighboursOfDamageStay(t *testing.T) {
	whole := written("one", "two", string(bytes.Repeat([]byte{1, 0, 0, 0}, 20)), "four", "five", "six")
	ends := extents(whole)
	for first := range whole {
		second := min(len(whole)-1, first+rand.IntN(80))
		spoilt := bytes.Clone(whole)
		spoilt[first] ^= 0x55
		spoilt[second] ^= 0xaa
		b := mended(spoilt, 0)
		for i := range len(ends) - 1 {
			from, to := ends[i], ends[i+1]
			touched := first >= from && first < to || second >= from && second < to
			if !touched && !bytes.Equal(b.data[from:to], whole[from:to]) {
				t.Fatalf("bytes %d and %d spoilt: record %d at %d is gone; changes %+v", first, second, i, from, b.changes)
			}
		}
		if b.torn > 0 && first < ends[len(ends)-2] && second < ends[len(ends)-2] {
			t.Fatalf("bytes %d and %d spoilt: torn %d", first, second, b.torn)
		}
	}
}

// A device can put into its readings what looks like thousands of records, to look at which takes more than a start has time for:
// what is behind them stays all the same.
func TestAnEndOfTheEffortCostsNothingBehindIt(t *testing.T) {
	fake := make(record, recordLeast)
	binary.LittleEndian.PutUint32(fake[lengthAt:], 60_000)
	binary.LittleEndian.PutUint64(fake[sequenceAt:], 1000)
	binary.LittleEndian.PutUint16(fake[subjectLengthAt:], 4)
	copy(fake[subjectAt:], "fuzz")
	whole := written("one", string(bytes.Repeat(fake, 2000)), string(make([]byte, 50_000)), "four", "five")
	ends := extents(whole)
	spoilt := bytes.Clone(whole)
	spoilt[ends[1]+sequenceAt] ^= 0x55
	spoilt[ends[1]+recordLeast] ^= 0x55
	spoilt[ends[1]] ^= 0x55
	b := mended(spoilt, 5)
	if !bytes.Equal(b.data[ends[2]:], whole[ends[2]:]) {
		t.Fatalf("records behind are gone; changes %+v", b.changes)
	}
}

// No checksum sees the length of a subject without headers: it is known by what the stream's subjects are, and in a bucket by
// how values begin. Any bit of it is put right, of the only record of a block too, whether the length still fits or not.
func TestASubjectsLengthIsPutRight(t *testing.T) {
	buckets := Subjects{Prefix: "fuzz."}
	for _, subjects := range []Subjects{buckets, fuzzed().subjects} {
		for key := range 70 {
			for _, value := range []string{`{}`, `[1,2,3]`, `"a text of some more length than the others"`} {
				subject := "fuzz.a"
				if len(subjects.Whole) == 0 {
					subject = "fuzz." + strings.Repeat("k", key+1)
				} else {
					value = strings.Repeat("k", key) + value
				}
				whole := writtenUnder(subject, value)
				for bit := range 16 {
					spoilt := bytes.Clone(whole)
					spoilt[subjectLengthAt+bit/8] ^= 1 << (bit % 8)
					b := &block{proof: proof{newHash(blockOf, 1), subjects}, data: spoilt, left: effortOfStart()}
					if b.mend(); !bytes.Equal(b.data, whole) || len(b.changes) != 1 || !b.changes[0].restored {
						t.Errorf("%s %s, bit %d: changes %+v", subject, value, bit, b.changes)
					}
				}
			}
		}
	}
}

// Where the message does not show where it begins, a subject that the stream can have is left, and one that it cannot have
// is damage. In a stream whose subjects are not known all are left.
func TestASubjectsLengthThatDoesNotShow(t *testing.T) {
	const left, lost, restored = "left", "lost", "restored"
	buckets, whole := Subjects{Prefix: "fuzz."}, fuzzed().subjects
	for _, c := range []struct {
		says     string
		subjects Subjects
		subject  string // and what the record says is behind it
		message  string
		want     string
	}{
		{"a text", buckets, "fuzz.key", "and its value", left},
		{"nothing", buckets, "fuzz.key", "", left},
		{"a number", buckets, "fuzz.key", "17", left},
		{"several bits wrong, but a key", buckets, "fuzz.k", `eys{}`, left},
		{"several bits wrong, and no key", buckets, "fuzz.key{\"a\":1", "}", restored},
		{"no key, and no end that shows", buckets, "fuzz.key with", " a text", lost},
		{"no key at all", buckets, "fuzz.", " a text", lost},
		{"a subject of another stream", buckets, "other.key", "{}", lost},
		{"another of this stream", whole, "fuzz.other", "{}", left},
		{"no subject of this stream, but its beginning", whole, "fuzz.a, and", " a text", restored},
		{"no subject of this stream", whole, "fuzz b", "{}", lost},
		{"not known", Subjects{}, "fuzz key", "{}", left},
	} {
		data := append(writtenUnder(c.subject, c.message), writtenUnder("fuzz.a", "{}")...)
		behind := record(data[extents(data)[1]:])
		binary.LittleEndian.PutUint64(behind[sequenceAt:], 2)
		copy(behind.checksum(), sum(newHash(blockOf, 1), behind[sequenceAt:subjectLengthAt], behind.body()))
		b := &block{proof: proof{newHash(blockOf, 1), c.subjects}, data: bytes.Clone(data), left: effortOfStart()}
		b.mend()
		got := left
		if len(b.changes) > 0 {
			got = lost
			if b.changes[0].restored {
				got = restored
			}
		}
		if got != c.want || len(b.changes) > 1 || got == left && !bytes.Equal(b.data, data) {
			t.Errorf("%s: %s, want %s; changes %+v", c.says, got, c.want, b.changes)
		}
		if len(b.changes) > 0 && b.changes[0].sequence != 1 {
			t.Errorf("%s: changes %+v", c.says, b.changes)
		}
		checkReadable(t, b)
	}
}

// What was being written when the power was cut is left to the server.
func TestATornRecordIsNoDamage(t *testing.T) {
	whole := written("one", "two", "a somewhat longer three")
	last := extents(whole)[2]
	for cut := last + 1; cut < len(whole); cut++ {
		for name, data := range map[string][]byte{
			"cut off":          whole[:cut],
			"zero to its end":  append(bytes.Clone(whole[:last]), make([]byte, cut-last)...),
			"zero behind that": append(bytes.Clone(whole), make([]byte, cut-last)...),
		} {
			b := mended(data, 0)
			if len(b.changes) > 0 || b.torn == 0 {
				t.Errorf("%s at %d: changes %+v, torn %d", name, cut, b.changes, b.torn)
			}
			if name == "zero behind that" {
				continue
			}
			if sealed := mended(data, 3); sealed.torn >= recordLeast || b.torn >= recordLeast && sealed.last != 3 {
				t.Errorf("%s at %d, and known to be written to its end: torn %d, last sequence %d", name, cut, sealed.torn, sealed.last)
			}
		}
	}
}

// A block of a format that is not known is left as it is, whatever it looks like.
func TestWhatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	dir := crowd(t, 3, false)
	streams := filepath.Join(dir, "jetstream", "$G", "streams")
	before := map[string][]byte{}
	for i := range 3 {
		if err := os.Rename(filepath.Join(streams, crowdName(i)), filepath.Join(streams, fmt.Sprint("OTHER", i))); err != nil { // its checksums are keyed by its name
			t.Fatal(err)
		}
		path := filepath.Join(streams, fmt.Sprint("OTHER", i), "msgs", "1.blk")
		before[path] = read(t, path)
	}
	if r := look(t, dir); len(r.Erased)+len(r.Restored) > 0 {
		t.Errorf("report %+v", r)
	}
	for path, data := range before {
		if !bytes.Equal(read(t, path), data) {
			t.Errorf("%s was changed", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "damaged")); err == nil {
		t.Error("copies were made")
	}
}

// A stream of many blocks: damage in one of them costs nothing in the others, and the numbers go on behind the newest, whose
// only record is damaged.
func TestDamageInOneBlockOfMany(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped in order %v", inOrder), func(t *testing.T) {
			dir := t.TempDir()
			e := start(t, dir)
			if _, err := e.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MANY", Subjects: []string{"many"}, MaxBytes: 120_000}); err != nil {
				t.Fatal(err)
			}
			messages := uint64(0)
			folder := filepath.Join("jetstream", "$G", "streams", "MANY", "msgs")
			for blocks := 0; blocks < 3 && messages < 100; { // the newest has one message then
				messages = e.publish("many", string(make([]byte, 1000)), nil)
				found, err := filepath.Glob(filepath.Join(dir, folder, "*.blk"))
				if err != nil {
					t.Fatal(err)
				}
				blocks = len(found)
			}
			if !inOrder {
				dir = copied(t, dir)
			}
			e.stop()
			folder = filepath.Join(dir, folder)
			newest := blockPath(folder, 3)
			for _, path := range []string{blockPath(folder, 1), newest} {
				data := read(t, path)
				for i := range 30 {
					data[len(data)-40+i] ^= 0x5a
				}
				write(t, path, data)
			}
			if r := look(t, dir); r.Erased["MANY"] != 2 || r.Restored["MANY"] != 0 {
				t.Errorf("report %+v", r)
			}
			notes, err := Notes(filepath.Join(dir, "damaged"), "MANY")
			if err != nil || len(notes) != 2 || len(notes[0].Lost) != 1 || len(notes[1].Lost) != 1 || notes[1].Lost[0].Sequence != messages {
				t.Errorf("notes %+v, %v", notes, err)
			}
			e = start(t, dir)
			there := uint64(0)
			for _, m := range e.messages("MANY", messages) {
				if m != "" {
					there++
				}
			}
			if there != messages-2 {
				t.Errorf("%d messages are there, want %d", there, messages-2)
			}
			if sequence := e.publish("many", "next", nil); sequence != messages+1 {
				t.Errorf("the next has sequence %d", sequence)
			}
		})
	}
}

// The copies have a bound, and the oldest go; a note goes when it has been dealt with.
func TestCopiesAndNotes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "1.blk")
	write(t, path, []byte("what was there"))
	aside := filepath.Join(dir, "damaged")
	kept, err := keepAside(aside, "S", path)
	if err != nil || string(read(t, kept)) != "what was there" {
		t.Fatalf("%s, %v", kept, err)
	}
	b := &block{changes: []change{{at: 0, length: 4, restored: true}, {at: 5, length: 3, sequence: 7}}}
	if err := b.note(kept, "S"); err != nil {
		t.Fatal(err)
	}
	notes, err := Notes(aside, "S")
	if err != nil || len(notes) != 1 {
		t.Fatalf("%+v, %v", notes, err)
	}
	if pieces, err := notes[0].Read(); err != nil || len(pieces) != 1 || string(pieces[0]) != "was" {
		t.Errorf("%q, %v", pieces, err)
	}
	if err := makeRoom(aside, 0); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(aside); err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	if pieces, err := notes[0].Read(); err != nil || pieces != nil {
		t.Errorf("of a copy that is gone: %q, %v", pieces, err)
	}
	if err := notes[0].Remove(); err != nil {
		t.Error(err)
	}
}

// Nothing is changed when no copy of it can be kept.
func TestWithoutACopyNothingIsChanged(t *testing.T) {
	dir := crowd(t, 1, false)
	data := read(t, crowdBlock(dir, 0))
	data[50] ^= 1
	write(t, crowdBlock(dir, 0), data)
	aside := filepath.Join(dir, "a file")
	write(t, aside, nil)
	if _, err := Store(dir, aside, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error")
	}
	if !bytes.Equal(read(t, crowdBlock(dir, 0)), data) {
		t.Error("the block was changed")
	}
}

func BenchmarkLook(b *testing.B) {
	payload := string(make([]byte, 8000))
	payloads := make([]string, 1000)
	for i := range payloads {
		payloads[i] = payload
	}
	data := written(payloads...)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		block := &block{proof: fuzzed(), data: data, left: &effort{}}
		block.mend()
		if len(block.changes) > 0 {
			b.Fatal("changed")
		}
	}
}
