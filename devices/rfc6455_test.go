package devices_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
)

// raw is one WebSocket frame at byte level, masked with zeroes.
func raw(first byte, payload string) []byte {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n <= 0xffff:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// lengthOf is the header of a text frame that says that length in 8 bytes.
func lengthOf(n uint64) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{0x81, 0xff}, n), 0, 0, 0, 0)
}

// readRaw reads one frame of the hub, which masks none.
func readRaw(r *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(head[1])
	if n == 126 {
		var long [2]byte
		if _, err = io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		n = int64(binary.BigEndian.Uint16(long[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}

// Whoever breaks the rules of WebSocket (RFC 6455, section by section) is told so by the close code and cut. Nothing
// of it reaches the journal, and its neighbour notices nothing.
func TestViolationsOfRFC6455(t *testing.T) {
	const text, first, last, binaryText = 0x81, 0x01, 0x80, 0x82
	good := `{"T":1}`
	for _, c := range []struct {
		name string
		send [][]byte
		code uint16
	}{
		{"5.2 reserved bit 1", [][]byte{raw(text|0x40, good)}, 1002},
		{"5.2 reserved bit 2", [][]byte{raw(text|0x20, good)}, 1002},
		{"5.2 reserved bit 3", [][]byte{raw(text|0x10, good)}, 1002},
		{"5.2 reserved bit of a ping", [][]byte{raw(0x89|0x40, "")}, 1002},
		{"5.2 reserved data opcode 3", [][]byte{raw(0x83, good)}, 1002},
		{"5.2 reserved data opcode 7", [][]byte{raw(0x87, good)}, 1002},
		{"5.2 reserved control opcode 11", [][]byte{raw(0x8b, "")}, 1002},
		{"5.2 reserved control opcode 15", [][]byte{raw(0x8f, "")}, 1002},
		{"5.2 length with its highest bit", [][]byte{lengthOf(1 << 63)}, 1002},
		{"5.2 length of all bits", [][]byte{lengthOf(1<<64 - 1)}, 1002},
		{"5.2 length 7 in 2 bytes", [][]byte{append([]byte{text, 0xfe, 0, 7, 0, 0, 0, 0}, good...)}, 1002},
		{"5.2 length 125 in 2 bytes", [][]byte{{text, 0xfe, 0, 125, 0, 0, 0, 0}}, 1002},
		{"5.2 length 7 in 8 bytes", [][]byte{append(lengthOf(7), good...)}, 1002},
		{"5.2 length 65535 in 8 bytes", [][]byte{lengthOf(65535)}, 1002},
		{"5.2 length of a ping in 2 bytes", [][]byte{{0x89, 0xfe, 0, 1, 0, 0, 0, 0, 'x'}}, 1002},
		{"5.2 a wrong length after a good frame", [][]byte{append(raw(text, good), lengthOf(7)...)}, 1002},
		{"5.2 a wrong length, byte by byte", [][]byte{{text}, {0xfe}, {0}, {7}, {0}, {0}, {0}, {0}}, 1002},
		{"5.3 not masked", [][]byte{{text, byte(len(good))}, []byte(good)}, 1002},
		{"5.3 close not masked", [][]byte{{0x88, 2, 3, 0xe8}}, 1002},
		{"5.3 ping not masked", [][]byte{{0x89, 0}}, 1002},
		{"5.4 continues nothing", [][]byte{raw(last, good)}, 1002},
		{"5.4 continues what is complete", [][]byte{raw(text, good), raw(last, good)}, 1002},
		{"5.4 another message within a message", [][]byte{raw(first, `{"T"`), raw(text, good)}, 1002},
		{"5.4 a binary one within a message", [][]byte{raw(first, `{"T"`), raw(binaryText, good)}, 1002},
		{"5.5 fragmented ping", [][]byte{raw(0x09, "")}, 1002},
		{"5.5 fragmented close", [][]byte{raw(0x08, "")}, 1002},
		{"5.5 ping over 125 bytes", [][]byte{raw(0x89, strings.Repeat("x", 126))}, 1002},
		{"5.5 close over 125 bytes", [][]byte{raw(0x88, "\x03\xe8"+strings.Repeat("x", 124))}, 1002},
		{"5.5.1 close with half a code", [][]byte{raw(0x88, "\x03")}, 1002},
		{"5.5.1 close with a reason that is not UTF-8", [][]byte{raw(0x88, "\x03\xe8\xff")}, 1007},
		{"5.5.1 close with a reason that ends within a character", [][]byte{raw(0x88, "\x03\xe8ok\xc3")}, 1007},
		{"5.5.1 close with such a reason, byte by byte", [][]byte{{0x88, 0x83, 1}, {2, 3, 4, 0x03 ^ 1}, {0xe8 ^ 2}, {0xff ^ 3}}, 1007},
		{"5.5.1 a frame after the device's close frame", [][]byte{raw(0x88, "\x03\xe8"), raw(text, good)}, 1000},
		{"5.5.1 another close frame after it", [][]byte{raw(0x88, "\x03\xe9"), raw(0x88, "\x03\xe8")}, 1001},
		{"7.4 close 0", [][]byte{raw(0x88, "\x00\x00")}, 1002},
		{"7.4 close 999", [][]byte{raw(0x88, "\x03\xe7")}, 1002},
		{"7.4 close 1004", [][]byte{raw(0x88, "\x03\xec")}, 1002},
		{"7.4 close 1005", [][]byte{raw(0x88, "\x03\xed")}, 1002},
		{"7.4 close 1006", [][]byte{raw(0x88, "\x03\xee")}, 1002},
		{"7.4 close 1015", [][]byte{raw(0x88, "\x03\xf7")}, 1002},
		{"7.4 close 1016", [][]byte{raw(0x88, "\x03\xf8")}, 1002},
		{"7.4 close 2999", [][]byte{raw(0x88, "\x0b\xb7")}, 1002},
		{"7.4 close 5000", [][]byte{raw(0x88, "\x13\x88")}, 1002},
		{"7.4 close 65535", [][]byte{raw(0x88, "\xff\xff")}, 1002},
		{"8.1 not UTF-8", [][]byte{raw(text, "{\"T\":\"\xc3\x28\"}")}, 1007},
		{"8.1 a surrogate", [][]byte{raw(text, "{\"T\":\"\xed\xa0\x80\"}")}, 1007},
		{"8.1 too long a form", [][]byte{raw(text, "{\"T\":\"\xc0\x80\"}")}, 1007},
		{"8.1 beyond Unicode", [][]byte{raw(text, "{\"T\":\"\xf4\x90\x80\x80\"}")}, 1007},
		{"8.1 a half over two fragments", [][]byte{raw(first, "{\"T\":\"\xc3"), raw(last, "\x28\"}")}, 1007},
		{"8.1 cut by a fragment's end", [][]byte{raw(first, "{\"T\":\"\xc3"), raw(last, "\"}")}, 1007},
		{"10.4 a frame over 16 MiB", [][]byte{lengthOf(16<<20 + 1)}, 1009},
		{"10.4 fragments over 16 MiB", [][]byte{raw(first, good), append([]byte{0x80}, lengthOf(16 << 20)[1:]...)}, 1009},
		{"10.4 fragments over 63 bits", [][]byte{raw(first, good), append([]byte{0x80}, lengthOf(1<<63 - 1)[1:]...)}, 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				neighbour := h.dial("d2")
				conn := h.link("d1").ws.NetConn()
				r := bufio.NewReader(conn)
				go func() {
					for _, frame := range c.send {
						if _, err := conn.Write(frame); err != nil {
							return
						}
					}
				}()
				var closing []byte
				start := time.Now()
				for {
					kind, payload, err := readRaw(r)
					if err != nil {
						break
					}
					if closing != nil {
						t.Errorf("after the close frame came %x %q", kind, payload)
					}
					if kind == 0x88 {
						closing = payload
					}
				}
				if len(closing) < 2 || binary.BigEndian.Uint16(closing) != c.code {
					t.Errorf("closed with %q, want %d", closing, c.code)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("cut after %v", took)
				}
				synctest.Wait()
				if p := h.sessions.Presence("d1"); p.Online || p.Cause == "" || p.Cause == "connection lost" {
					t.Errorf("presence %+v", p)
				}
				stored := 0
				switch c.name {
				case "5.4 continues what is complete", "5.2 a wrong length after a good frame":
					stored = 1
				}
				if events := h.sessions.Events("d1"); len(events) == 0 || events[0].Kind != devices.EventClose || events[0].Message == "" {
					t.Errorf("the flight recorder says %+v, want why it ended first", events)
				}
				if got := h.sink.lines(); len(got) != stored {
					t.Errorf("stored %v", got)
				}
				neighbour.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
				neighbour.want(result("1"))
			})
		})
	}
}

// What the RFC allows, if rarely used, is taken: fragments, also empty ones, with pings between them.
func TestFragments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		conn := h.link("d1").ws.NetConn()
		r := bufio.NewReader(conn)
		go func() {
			for _, frame := range [][]byte{
				raw(0x01, ""), raw(0x00, `{"id":1,"method":"tele`), raw(0x89, "are you there"), raw(0x00, ""), raw(0x8a, "unasked"), raw(0x80, `metry","params":{"values":{"T":1}}}`),
			} {
				if _, err := conn.Write(frame); err != nil {
					return
				}
			}
		}()
		for _, want := range []string{"\x8aare you there", "\x81" + result("1")} {
			first, payload, err := readRaw(r)
			if got := string(append([]byte{first}, payload...)); err != nil || got != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
		wantLines(t, h.sink.lines(), `d1  boot= seq=0 {"values":{"T":1}}`)
	})
}

// Over real TCP the close frame arrives though the device still sends: a socket closed with unread bytes would be
// reset, and the device would never know why.
func TestTooLargeIsToldOverTCP(t *testing.T) {
	h := newHub(t)
	address := h.serveTCP()
	for range 5 {
		d := h.dialTCP(address, "d1")
		header := lengthOf(20 << 20)
		if _, err := d.ws.NetConn().Write(append(header, bytes.Repeat([]byte{'x'}, 20<<20)...)); err != nil {
			t.Fatalf("sending a frame of 20 MiB: %v", err)
		}
		d.wantClose(1009)
		_ = d.ws.Close()
	}
}

// Handshakes that are half done hold no session.
func TestHalfAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		conn := h.listener.dial()
		if _, err := conn.Write([]byte("GET /connect HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer " + h.tokens["d1"] + "\r\n")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := h.sessions.Count(); len(n) != 0 {
			t.Errorf("sessions %v", n)
		}
		conn.Close()
	})
	synctest.Test(t, func(t *testing.T) { // the device does not read the answer
		h := newHub(t)
		conn := h.listener.dial()
		req, _ := http.NewRequest("GET", "http://hub/connect", nil)
		req.Header = bearer(h.tokens["d1"])
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		req.Header.Set("Sec-WebSocket-Version", "13")
		req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, err := conn.Write([]byte{0}); err == nil {
			t.Error("the socket is still open after the handshake's time")
		}
		if n := h.sessions.Count(); len(n) != 0 {
			t.Errorf("sessions %v", n)
		}
	})
}
