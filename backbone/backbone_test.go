package backbone_test

import (
	"context"
	"log/slog"
	"testing"

	"telemetryhub/backbone"
)

func open(t *testing.T, dir string) *backbone.Backbone {
	t.Helper()
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsDeclaredAndPublishedSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if _, err := b.JetStream().Publish(t.Context(), backbone.JournalSubject, []byte("envelope")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{backbone.Devices, backbone.Presence, backbone.Commands, backbone.Operators, backbone.Progress} {
		kv, err := b.Bucket(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "k", []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = open(t, dir)
	defer b.Close()
	stream, err := b.JetStream().Stream(t.Context(), backbone.Journal)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(msg.Data) != "envelope" {
		t.Fatalf("journal message 1 = %v, %v", msg, err)
	}
	kv, err := b.Bucket(t.Context(), backbone.Commands)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "k"); err != nil || string(e.Value()) != backbone.Commands {
		t.Fatalf("bucket value = %v, %v", e, err)
	}
}

func TestAFullJournalRefusesTheNewAndKeepsTheOld(t *testing.T) {
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: t.TempDir(), JournalMaxBytes: 4096}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	envelope := make([]byte, 1000)
	for range 10 {
		if _, err = b.JetStream().Publish(context.Background(), backbone.JournalSubject, envelope); err != nil {
			break
		}
	}
	if !backbone.IsFull(err) {
		t.Fatalf("publishing 10 kB into a journal of 4 kB: %v, want full", err)
	}
	stream, err := b.JetStream().Stream(t.Context(), backbone.Journal)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.FirstSeq != 1 || info.State.Msgs == 0 {
		t.Fatalf("state %+v, %v: the first envelope must still be there", info, err)
	}
}

func TestAnUnreachableNATSSaysSo(t *testing.T) {
	_, err := backbone.Open(t.Context(), backbone.Config{URL: "nats://127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("want an error")
	}
}

func TestAJournalOfAnySizeLeavesRoomForTheRest(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int64{64 << 20, 100 << 30, 1 << 60} {
		b, err := backbone.Open(t.Context(), backbone.Config{Dir: dir, JournalMaxBytes: size}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("a journal of %d bytes: %v", size, err)
		}
		stream, err := b.JetStream().Stream(t.Context(), backbone.Journal)
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config.MaxBytes; got != size {
			t.Errorf("the journal may hold %d bytes, want %d", got, size)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
