package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// publishBytes is a PUBLISH, in MQTT 5 with one user property.
func publishBytes(v5 bool, qos byte, payload string) []byte {
	body := append([]byte{0, 3}, "a/b"...)
	if qos > 0 {
		body = append(body, 0, 7)
	}
	if v5 {
		property := append(append([]byte{0x26, 0, 1}, 'k', 0, 150), strings.Repeat("v", 150)...)
		body = append(binary.AppendUvarint(body, uint64(len(property))), property...)
	}
	body = append(body, payload...)
	return append(binary.AppendUvarint([]byte{packetPublish<<4 | qos<<1}, uint64(len(body))), body...)
}

// chunks reads at most so many bytes at once.
type chunks struct {
	io.Reader
	most int
}

func (c chunks) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), c.most)]) }

// Whatever pieces the stream comes in, all packets but the large ones pass as they are, and those without their payload.
func TestSieveCutsOnlyLargeMessages(t *testing.T) {
	mark := []byte("a mark that is known to nobody")
	for _, v5 := range []bool{false, true} {
		var in, want []byte
		for qos := range byte(3) {
			large := strings.Repeat("x", 5000)
			cut := string(binary.BigEndian.AppendUint64(bytes.Clone(mark), 5000))
			for _, p := range []string{"", "small", large, strings.Repeat("y", 700)} {
				in = append(in, publishBytes(v5, qos, p)...)
				if p == large {
					p = cut
				}
				want = append(want, publishBytes(v5, qos, p)...)
			}
			in, want = append(in, 0xc0, 0), append(want, 0xc0, 0)
		}
		for _, size := range []int{1, 2, 3, 5, 64, 255, 1024, 4096, 1 << 20} {
			for _, buffer := range []int{1, 16, 1024} {
				s := sieve{version: versionOf(v5)}
				got, err := io.ReadAll(readFunc(func(p []byte) (int, error) {
					return s.read(chunks{bytes.NewReader(nil), size}, p, 1000, mark)
				}))
				if err != nil || len(got) > 0 {
					t.Fatalf("of nothing: %q, %v", got, err)
				}
				from := chunks{bytes.NewReader(in), size}
				got, err = io.ReadAll(chunks{readFunc(func(p []byte) (int, error) { return s.read(from, p, 1000, mark) }), buffer})
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("v5 %v, in pieces of %d into %d: %d bytes, %v; want %d", v5, size, buffer, len(got), err, len(want))
				}
				if s.spill != nil || s.passing != 0 || s.dropping != 0 {
					t.Errorf("left over: %+v", s)
				}
			}
		}
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestSieveEndsWhatItCannotCut(t *testing.T) {
	for name, in := range map[string][]byte{
		"a large SUBSCRIBE":     append(binary.AppendUvarint([]byte{0x82}, 5000), 0, 1),
		"a message over 16 MiB": {0x30, 0x80, 0x80, 0x80, 0x09, 0, 3, 'a', '/', 'b'},
		"a topic of 5 KB":       append(binary.AppendUvarint([]byte{0x30}, 6000), 0x13, 0x88, 'a'),
	} {
		s := sieve{version: 5}
		_, err := io.ReadAll(readFunc(func(p []byte) (int, error) {
			return s.read(iotest.OneByteReader(bytes.NewReader(in)), p, 1000, []byte("m"))
		}))
		if !errors.Is(err, errPacketTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := sieve{version: 4}
	if _, err := s.read(bytes.NewReader(publishBytes(false, 1, strings.Repeat("x", 2000))), make([]byte, 100), 1000, nil); !errors.Is(err, errPacketTooLarge) {
		t.Errorf("before CONNECT: %v", err)
	}
}

// FuzzSieve looks for input that panics, or that makes a sieve hold more than a header.
func FuzzSieve(f *testing.F) {
	f.Add(publishBytes(true, 1, strings.Repeat("x", 2000)), 3, true)
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, 1, false)
	f.Fuzz(func(t *testing.T, in []byte, size int, v5 bool) {
		s := sieve{version: 5}
		from := chunks{bytes.NewReader(in), max(1, size)}
		p := make([]byte, 64)
		for {
			_, err := s.read(from, p, 100, []byte("mark"))
			if s.spill != nil && len(s.spill.begun)+len(s.spill.ready) > 2*(largestHeader+len(p)) {
				t.Fatalf("holds %d and %d bytes", len(s.spill.begun), len(s.spill.ready))
			}
			if err != nil {
				return
			}
		}
	})
}

func versionOf(v5 bool) byte {
	if v5 {
		return 5
	}
	return 4
}
