package commands

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unique"
)

// archived is what is kept in memory of an ended command that only the bucket has: what lists choose by. It takes about
// 100 bytes.
type archived struct {
	id            string
	created       time.Time
	device, actor unique.Handle[string]
	state         State
}

// summary is a command as far as a filter looks at it.
func (a *archived) summary() Command {
	return Command{ID: a.id, Device: a.device.Value(), Actor: a.actor.Value(), State: a.state, Created: a.created}
}

// archive is the index of the commands that were evicted, by id: at most [MaxArchived], of which the oldest are forgotten
// first. It is guarded by Service.mu.
type archive struct{ byID []archived }

func (a *archive) add(entries []*entry) {
	for _, e := range entries {
		c := &e.view
		a.byID = append(a.byID, archived{
			id: strings.Clone(c.ID), created: c.Created, device: unique.Make(c.Device), actor: unique.Make(c.Actor), state: c.State,
		})
	}
	inOrder := func(x, y archived) int { return strings.Compare(x.id, y.id) }
	if !slices.IsSortedFunc(a.byID, inOrder) {
		slices.SortFunc(a.byID, inOrder)
	}
	if over := len(a.byID) - MaxArchived; over > 0 {
		a.byID = slices.Delete(a.byID, 0, over)
	}
}

// before returns how many have an id that is less.
func (a *archive) before(id string) int {
	i, _ := slices.BinarySearchFunc(a.byID, id, func(have archived, id string) int { return strings.Compare(have.id, id) })
	return i
}

// remove forgets a command that is in the mirror again, or in the bucket no more.
func (a *archive) remove(id string) {
	if i := a.before(id); i < len(a.byID) && a.byID[i].id == id {
		a.byID = slices.Delete(a.byID, i, i+1)
	}
}

// List returns the commands that match, the newest first, and the cursor of the next page ("" at the end). What is not
// in memory is read from the bucket; of ended commands it knows the newest, at least [MaxArchived].
func (s *Service) List(ctx context.Context, f Filter) (cmds []Command, next string, err error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	page, more := s.choose(&f)
	if more {
		next = page[len(page)-1].ID
	}
	cmds = page[:0]
	for _, c := range page {
		if c.History == nil { // of the archive
			if c, _, err = s.read(ctx, c.ID); errors.Is(err, ErrNotFound) || (err == nil && !f.takes(&c)) {
				continue // removed, or mended by a late answer, meanwhile
			}
			if err != nil {
				return nil, "", err
			}
		}
		cmds = append(cmds, c)
	}
	return cmds, next, nil
}

// choose returns a page of what matches, those of the archive as summaries, and whether there is more.
func (s *Service) choose(f *Filter) (page []Command, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	here, old := s.mirror.order, s.mirror.archive.byID
	if f.Cursor != "" {
		i, _ := slices.BinarySearchFunc(here, f.Cursor, func(have *entry, id string) int { return strings.Compare(have.next.ID, id) })
		here, old = here[:i], old[:s.mirror.archive.before(f.Cursor)]
	}
	for len(here)+len(old) > 0 {
		var c Command
		if last := len(here) - 1; last >= 0 && (len(old) == 0 || here[last].next.ID > old[len(old)-1].id) {
			c, here = here[last].view, here[:last] // empty while its first record is on its way
		} else {
			c, old = old[len(old)-1].summary(), old[:len(old)-1]
		}
		switch {
		case c.ID != "" && c.Created.Before(f.From): // and all before it
			return page, false
		case c.ID == "" || !f.takes(&c):
		case len(page) == f.Limit:
			return page, true
		default:
			page = append(page, c)
		}
	}
	return page, false
}
