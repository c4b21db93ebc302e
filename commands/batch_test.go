package commands_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
)

// TestManyCommandsShareACommit sends to many devices while the disk is slow.
func TestManyCommandsShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const devices = 100
		r, kv := newRouter(), newMemory()
		for d := range devices {
			r.connect(fmt.Sprint("d", d), 1)
		}
		s := open(t, kv, r)
		kv.landed = func(string) error {
			time.Sleep(time.Millisecond) // virtual: of the fsync
			return nil
		}
		began := time.Now()
		var operators sync.WaitGroup
		for d := range devices {
			operators.Go(func() { send(t, s, commands.Request{Device: fmt.Sprint("d", d)}) })
		}
		operators.Wait()
		if took := time.Since(began); took > 5*time.Millisecond {
			t.Errorf("%d commands to as many devices took %v, with a disk that syncs in 1 ms", devices, took)
		}
		if st := s.Stats(); st.Batches == 0 || len(r.sent) != devices {
			t.Errorf("%d batches, %d sent", st.Batches, len(r.sent))
		}
	})
}

// TestABatchThatFailsIsWrittenOneByOne has the commit fail, unheard or for one record that somebody else changed.
func TestABatchThatFailsIsWrittenOneByOne(t *testing.T) {
	for name, unheard := range map[string]bool{"unheard": true, "refused": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, kv := newRouter(), newMemory()
				for d := range 10 {
					r.connect(fmt.Sprint("d", d), 1)
				}
				s := open(t, kv, r)
				kv.landed = func(string) error {
					time.Sleep(time.Millisecond) // so that others gather
					return nil
				}
				kv.refuseBatches(errors.New("no atomic batches"), unheard)
				var operators sync.WaitGroup
				for d := range 10 {
					operators.Go(func() {
						c := send(t, s, commands.Request{Device: fmt.Sprint("d", d)})
						s.Answered(c.Device, 1, result(c.ID, `1`))
						wantEnd(t, s, c.ID, commands.Done, "")
					})
				}
				operators.Wait()
				if st := s.Stats(); len(r.sent) != 10 || st.BatchFailures == 0 || st.WriteFailures != 0 {
					t.Errorf("sent %d, stats %+v", len(r.sent), st)
				}
			})
		})
	}
}
