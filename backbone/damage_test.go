package backbone_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"telemetryhub/backbone"
)

// One bit of each file of the store, the blocks as well as what NATS keeps beside them, costs nothing, after a stop in order
// and after a kill; and it is said.
func TestOneFlippedBitInEachFileCostsNothing(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			const each = 5
			buckets := []string{backbone.Devices, backbone.Presence, backbone.Commands, backbone.Operators, backbone.Types, backbone.Progress}
			for n := range each {
				if _, err := b.JetStream().Publish(t.Context(), backbone.JournalSubject, fmt.Appendf(nil, "envelope %d", n)); err != nil {
					t.Fatal(err)
				}
				for _, name := range buckets {
					kv, err := b.Bucket(t.Context(), name)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := kv.Put(t.Context(), fmt.Sprint("key", n), fmt.Appendf(nil, `{"value":%d}`, n)); err != nil {
						t.Fatal(err)
					}
				}
			}
			left := dir
			if killed {
				left = t.TempDir()
				if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			flipped := flipOneBitOfEachFile(t, filepath.Join(left, "jetstream"))

			b = open(t, left)
			defer b.Close()
			stream, err := b.JetStream().Stream(t.Context(), backbone.Journal)
			if err != nil {
				t.Fatal(err)
			}
			for n := range each {
				if msg, err := stream.GetMsg(t.Context(), uint64(n+1)); err != nil || string(msg.Data) != fmt.Sprint("envelope ", n) {
					t.Errorf("envelope %d = %v, %v; flipped %v", n, msg, err, flipped)
				}
				for _, name := range buckets {
					kv, err := b.Bucket(t.Context(), name)
					if err != nil {
						t.Fatal(err)
					}
					if e, err := kv.Get(t.Context(), fmt.Sprint("key", n)); err != nil || string(e.Value()) != fmt.Sprintf(`{"value":%d}`, n) {
						t.Errorf("bucket %s, key %d = %v, %v; flipped %v", name, n, e, err, flipped)
					}
				}
			}
			if d := b.Damage(); d.Restored[backbone.Journal] != 1 || d.Restored["KV_"+backbone.Devices] != 1 || len(d.Lost) != 0 {
				t.Errorf("damage %+v", d)
			}
		})
	}
}

func flipOneBitOfEachFile(t *testing.T, dir string) (where []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return err
		}
		at := rand.IntN(len(data))
		data[at] ^= 1 << rand.IntN(8)
		name, _ := filepath.Rel(dir, path) // it is below dir
		where = append(where, fmt.Sprintf("%s:%d", name, at))
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// Of what Open declares, each stream's subjects are known: where a subject ends is told by them alone, if there are no headers.
func TestASubjectsLengthCostsNothingInAnyStream(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	sent := map[string]string{} // subject by stream
	names := b.JetStream().StreamNames(t.Context())
	for name := range names.Name() {
		subject := map[string]string{
			backbone.Journal: backbone.JournalSubject, backbone.Quarantine: backbone.QuarantineSubject, backbone.Acts: backbone.ActsSubject,
		}[name]
		if bucket, is := strings.CutPrefix(name, "KV_"); is {
			subject = "$KV." + bucket + ".key"
		}
		sent[name] = subject
	}
	if err := names.Err(); err != nil || len(sent) < 10 {
		t.Fatalf("streams %v, %v", sent, err)
	}
	for _, subject := range sent {
		if _, err := b.JetStream().Publish(t.Context(), subject, []byte(`{"of":"no headers"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for name := range sent {
		path := filepath.Join(dir, "jetstream", "$G", "streams", name, "msgs", "1.blk")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const subjectLengthAt = 20 // in a record, of which the block has one
		data[subjectLengthAt] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b = open(t, dir)
	defer b.Close()
	for name, subject := range sent {
		stream, err := b.JetStream().Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := stream.GetLastMsgForSubject(t.Context(), subject)
		if d := b.Damage(); err != nil || msg.Sequence != 1 || string(msg.Data) != `{"of":"no headers"}` || d.Restored[name] != 1 {
			t.Errorf("%s: %v, %v; damage %+v", name, msg, err, d)
		}
	}
}

// More damage than can be put right costs what it touches, and what was left of it can be had until it is dealt with.
func TestWhatIsLostIsSaidUntilItIsDealtWith(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	for range 3 {
		if _, err := b.JetStream().Publish(t.Context(), backbone.JournalSubject, []byte("an envelope of some length")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "jetstream", "$G", "streams", backbone.Journal, "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		data[len(data)/2+i] ^= 0xff
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for start, want := range []int{1, 0, 1, 0} {
		const unreadable, dealt = 1, 2 // starts
		copies, err := filepath.Glob(filepath.Join(dir, "damaged", "*.blk"))
		if err != nil || len(copies) != min(start, 1) {
			t.Fatalf("start %d: copies %v, %v", start, copies, err)
		}
		switch start {
		case unreadable:
			if err := os.Truncate(copies[0], 1); err != nil {
				t.Fatal(err)
			}
		case dealt:
			if err := os.WriteFile(copies[0], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b, err := backbone.Open(t.Context(), backbone.Config{Dir: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		left, named, err := b.LostEnvelopes()
		if err != nil || len(left) != want {
			t.Errorf("start %d: %d are lost, %v; want %d", start, len(left), err, want)
		}
		if lost := b.Damage().Lost[backbone.Journal]; (lost == 1) != (start == 0) {
			t.Errorf("start %d: %d were found", start, lost)
		}
		if start == unreadable || start == dealt {
			if err := named(); err != nil {
				t.Error(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
