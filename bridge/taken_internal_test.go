package bridge

import "testing"

// A device that comes with new ids for ever costs no more than one with as many as it may have in flight.
func TestTakingsAreBounded(t *testing.T) {
	all := newTakings()
	begin := func(id uint16) bool {
		_, again := all.begin(message{packetID: id, topic: "t"})
		return again
	}
	for id := range uint16(receiveMaximum + 10) {
		if begin(id) {
			t.Fatalf("%d came before", id)
		}
	}
	if len(all.byID) != receiveMaximum || !begin(10) || begin(9) {
		t.Errorf("%d takings; want %d, the oldest gone", len(all.byID), receiveMaximum)
	}
}
