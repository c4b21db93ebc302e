package feed_test

import (
	"testing"

	"telemetryhub/feed"
)

func drain(f *feed.Feed[int]) (got []int) {
	for {
		select {
		case v := <-f.C():
			got = append(got, v)
		default:
			return got
		}
	}
}

func TestASlowReaderIsToldWhatItMissed(t *testing.T) {
	var feeds feed.Feeds[int]
	quick, slow := feeds.Subscribe(10), feeds.Subscribe(2)
	for v := range 5 {
		feeds.Publish(v)
	}
	if got := drain(quick); len(got) != 5 || got[4] != 4 || quick.Missed() != 0 {
		t.Errorf("the quick one got %v and missed some", got)
	}
	if got := drain(slow); len(got) != 2 || got[1] != 1 {
		t.Errorf("the slow one got %v, want the first two", got)
	}
	if first, then := slow.Missed(), slow.Missed(); first != 3 || then != 0 {
		t.Errorf("missed %d and then %d, want 3 and 0", first, then)
	}
	if lost := feeds.Lost(); lost != 3 {
		t.Errorf("lost %d in all, want 3", lost)
	}
}

func TestNothingComesAfterTheEnd(t *testing.T) {
	var feeds feed.Feeds[int]
	left, stays := feeds.Subscribe(4), feeds.Subscribe(4)
	left.Close()
	feeds.Publish(1)
	feeds.Close()
	late := feeds.Subscribe(0)
	feeds.Publish(2)
	if got := drain(left); got != nil {
		t.Errorf("the one that left got %v", got)
	}
	if got := drain(stays); len(got) != 1 || got[0] != 1 {
		t.Errorf("the one that stays got %v, want 1", got)
	}
	if got := drain(late); got != nil {
		t.Errorf("the late one got %v", got)
	}
}
