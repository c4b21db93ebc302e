package devices

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// chunks is a connection that gives at most size bytes at a time.
type chunks struct {
	net.Conn
	rest []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// readFrames reads all that is passed on, and why no more is.
func readFrames(data []byte, size int) ([]byte, error) {
	f := &frames{Conn: &chunks{rest: data, size: size}}
	var all []byte
	buf := make([]byte, 512)
	for {
		n, err := f.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			return all, err
		}
	}
}

// What is passed on is what came, and nothing of a frame whose breach is seen with its head; how the bytes are cut makes no
// difference to the verdict.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"", "\x81\x80\x00\x00\x00\x00", "\x81\x83\x01\x02\x03\x04abc\x89\x80\x00\x00\x00\x00", "\x81\xfe\x00\x07\x00\x00\x00\x00abcdefg",
		"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x88\x81\x00\x00\x00\x00\x03", "\x88\x83\x00\x00\x00\x00\x03\xe8\xff", "\x88\x05\x03\xe8bye",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole, wholeErr := readFrames(data, 512)
		single, singleErr := readFrames(data, 1)
		if wholeErr.Error() != singleErr.Error() {
			t.Errorf("in one piece %v, byte by byte %v", wholeErr, singleErr)
		}
		if !bytes.HasPrefix(data, whole) || !bytes.HasPrefix(single, whole) {
			t.Errorf("passed on %x, byte by byte %x, of %x", whole, single, data)
		}
		if errors.Is(wholeErr, io.EOF) && len(whole) != len(data) {
			t.Errorf("passed on %d of %d bytes", len(whole), len(data))
		}
	})
}
