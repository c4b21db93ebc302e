package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// stream is a connection that brings these bytes and takes none.
type stream struct {
	net.Conn
	*bytes.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// inletOf is what paho would read of these bytes, after a SUBSCRIBE of 2 filters.
func inletOf(in []byte, maxPayload int) *inlet {
	e := &External{cfg: ExternalConfig{Window: ExternalWindow{MaxPayload: maxPayload}}, mark: []byte("a mark that is known to nobody"), receipts: newReceipts()}
	l := &line{external: e}
	l.alive, l.fail = context.WithCancelCause(context.Background())
	i := newInlet(stream{Reader: bytes.NewReader(in)}, l)
	i.asked.Store(2)
	return i
}

// What a broker may send passes as it is; of a message that is too large the header, and how large it was. Nothing of it
// is kept.
func TestInletHandsOnWhatABrokerMaySend(t *testing.T) {
	small := slices.Concat([]byte{0x20, 2, 1, 0}, []byte{0x90, 4, 0, 1, 1, 0x80}, []byte{0xd0, 0}, []byte{0x62, 2, 0, 7}, []byte{0xb0, 2, 0, 9})
	want := slices.Clone(small)
	in := slices.Clone(small)
	const large = 20 << 20
	for qos := range byte(3) {
		in = append(in, publishBytes(false, qos, "small")...)
		want = append(want, publishBytes(false, qos, "small")...)
	}
	in = append(in, publishBytes(false, 1, strings.Repeat("x", large))...)
	mark := "a mark that is known to nobody" + string(binary.BigEndian.AppendUint64(nil, large))
	want = append(want, publishBytes(false, 1, mark)...)
	in, want = append(in, publishBytes(false, 2, "after")...), append(want, publishBytes(false, 2, "after")...)

	i := inletOf(in, 1000)
	if got, err := io.ReadAll(i); !errors.Is(err, io.EOF) && err != nil || !bytes.Equal(got, want) {
		t.Errorf("handed on %q, %v\nwant %q", got, err, want)
	}
	if cap(i.buffer) > keptBuffer {
		t.Errorf("%d bytes are kept", cap(i.buffer))
	}
	if !i.line.resumed.Load() {
		t.Error("CONNACK's session present was not seen")
	}
	if endWord(context.Cause(i.line.alive)) != endLost {
		t.Errorf("ended by %v, want a lost connection", context.Cause(i.line.alive))
	}
}

// FuzzInlet: whatever a broker sends, paho gets whole packets that it can read, and the hub allocates no more than the
// bounds say.
func FuzzInlet(f *testing.F) {
	connack := []byte{0x20, 2, 0, 0}
	f.Add(connack)
	f.Add(append(slices.Clone(connack), 0x90, 4, 0, 1, 1, 1))
	f.Add(append(slices.Clone(connack), publishBytes(false, 2, strings.Repeat("x", 2000))...))
	f.Add(append(slices.Clone(connack), 0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'))
	f.Add(append(slices.Clone(connack), 0x32, 5, 0, 1, 'a', 0, 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		i := inletOf(in, 1000)
		for {
			packet, err := packets.ReadPacket(i)
			if cap(i.buffer) > 70<<10+1000 { // the longest topic, and the largest payload
				t.Fatalf("%d bytes for a packet", cap(i.buffer))
			}
			if err != nil {
				if i.line.alive.Err() == nil {
					t.Fatalf("paho cannot read what the inlet handed on: %v", err)
				}
				return
			}
			if m, ok := packet.(*packets.PublishPacket); ok && (m.Qos > 2 || m.Qos > 0 && m.MessageID == 0) {
				t.Fatalf("handed on: %v", m)
			}
		}
	})
}
