package bridge

import (
	"bytes"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// seeds are packets as devices send them, in MQTT 3.1.1 where they differ.
func seeds() [][]byte {
	return [][]byte{
		{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'},
		{0x10, 27, 0, 4, 'M', 'Q', 'T', 'T', 5, 0xc6, 0, 60, 0, 0, 1, 'c', 5, 0x18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
		{0x32, 7, 0, 1, 'a', 0, 1, 0, 'x'},
		{0x30, 8, 0, 1, 'a', 3, 0x23, 0, 1, 'x'},
		{0x40, 2, 0, 1},
		{0x50, 3, 0, 1, 0x10},
		{0x62, 4, 0, 1, 0x92, 0},
		{0x70, 2, 0, 1},
		{0x82, 6, 0, 1, 0, 1, 'a', 1},
		{0x82, 9, 0, 1, 2, 0x0b, 1, 0, 1, 'a', 0x2d},
		{0xa2, 5, 0, 1, 0, 1, 'a'},
		{0xc0, 0},
		{0xe0, 0},
		{0xe0, 2, 4, 0},
		{0xf0, 0},
		{0x30, 0xff, 0xff, 0xff, 0xff, 1},
	}
}

// FuzzInspect holds that the engine can decode what passes: its decoder reads some packets beyond their end.
func FuzzInspect(f *testing.F) {
	for _, b := range seeds() {
		for version := range byte(3) {
			f.Add(version, b)
		}
	}
	f.Fuzz(func(t *testing.T, version byte, in []byte) {
		s := sieve{version: []byte{0, 4, 5}[version%3]}
		out, wrong := s.pass(bytes.Clone(in), 1<<16, nil)
		if wrong != nil && wrong.text == "" {
			t.Fatal("a fault that does not say what it is")
		}
		head, size, whole := fixedHeader(out)
		if !whole || len(out) < head+size {
			return
		}
		pk := packets.Packet{ProtocolVersion: s.version}
		if err := pk.FixedHeader.Decode(out[0]); err != nil {
			t.Fatalf("% x: %v", out[:head+size], err)
		}
		pk.FixedHeader.Remaining = size
		body := bytes.Clone(out[head : head+size])
		var err error
		switch pk.FixedHeader.Type {
		case packets.Connect:
			if err = pk.ConnectDecode(body); pk.ProtocolVersion < 4 {
				err = nil // the old name's
			}
		case packets.Publish:
			err = pk.PublishDecode(body)
		case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
			err = pk.PubackDecode(body)
		case packets.Subscribe:
			if err = pk.SubscribeDecode(body); err == nil && pk.SubscribeValidate() != packets.CodeSuccess {
				t.Errorf("% x: not valid", out[:head+size])
			}
		case packets.Unsubscribe:
			err = pk.UnsubscribeDecode(body)
		case packets.Disconnect:
			err = pk.DisconnectDecode(body)
		}
		if err != nil {
			t.Errorf("% x: %v", out[:head+size], err)
		}
	})
}
