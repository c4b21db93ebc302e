package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	cryptorand "crypto/rand"

	"github.com/nats-io/nats.go/jetstream"
)

// An import in the bucket: first its parts, each some devices as they are to be and the revisions that they replace,
// then its head, with which it is decided. Then the devices are written, each if it is still at the revision that the
// plan names, and the plan is taken away, its head first. So a crash before the head leaves no device, and after one
// after it the next start writes the rest; a device that was written already, or changed or deleted since, is at another
// revision by then and stays.
//
// Keys are those below; '=' and a letter begin no device's key.
const (
	planHead = "=import."      // and the import's name
	planPart = "=import-part." // name, dot, number
)

type planned struct {
	Device   Device `json:"device"`
	Revision uint64 `json:"revision"`
}

type importHead struct {
	Parts   int `json:"parts"`
	Devices int `json:"devices"`
}

const (
	largestPart = 256 << 10 // bytes, about; far below the message that any NATS takes
	importBatch = 500       // devices of one commit
	// strayAfter is the age of parts without a head that nobody is about to write a head for.
	strayAfter = time.Hour
)

func isPlan(key string) bool {
	return strings.HasPrefix(key, planHead) || strings.HasPrefix(key, planPart)
}

func partKey(name string, part int) string { return fmt.Sprintf("%s%s.%d", planPart, name, part) }

// carryOut decides an import and writes it. It returns the ids of the devices that it wrote.
func (m *Importer) carryOut(ctx context.Context, plan []planned) (written map[string]bool, err error) {
	name := cryptorand.Text()
	parts, err := m.writeParts(ctx, name, plan)
	if err == nil {
		err = m.decide(ctx, name, importHead{Parts: parts, Devices: len(plan)})
	}
	if err != nil {
		m.discard(ctx, name, parts)
		return nil, err
	}
	if written, err = m.apply(ctx, plan); err != nil {
		return nil, fmt.Errorf("the import is decided, and will be finished with the next import or start; its tokens are lost: %w", err)
	}
	m.discard(ctx, name, parts)
	return written, nil
}

func (m *Importer) writeParts(ctx context.Context, name string, plan []planned) (parts int, err error) {
	part := []byte{'['}
	for i, p := range plan {
		data, err := json.Marshal(p)
		if err != nil {
			return parts, fmt.Errorf("encode device %s: %w", p.Device.ID, err)
		}
		part = append(append(part, data...), ',')
		if i < len(plan)-1 && len(part) < largestPart {
			continue
		}
		part[len(part)-1] = ']'
		parts++
		if _, err := m.registry.kv.Put(ctx, partKey(name, parts), part); err != nil {
			return parts, fmt.Errorf("nothing was imported: write the plan: %w", err)
		}
		part = []byte{'['}
	}
	return parts, nil
}

// decide writes the head. Where the answer is lost, it asks what became of it.
func (m *Importer) decide(ctx context.Context, name string, head importHead) error {
	data, err := json.Marshal(head)
	if err != nil {
		return err
	}
	_, err = m.registry.kv.Put(ctx, planHead+name, data)
	if err == nil {
		return nil
	}
	if _, lost := m.registry.kv.Get(ctx, planHead+name); lost == nil {
		return nil
	} else if errors.Is(lost, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("nothing was imported: decide: %w", err)
	}
	return fmt.Errorf("whether the import was decided is not known; if it was, it is finished with the next import or start: %w", err)
}

// discard takes a plan away. What stays behind of it harms nobody: its devices are at other revisions.
func (m *Importer) discard(ctx context.Context, name string, parts int) {
	err := m.registry.kv.Purge(ctx, planHead+name)
	for part := 1; part <= parts && err == nil; part++ {
		err = m.registry.kv.Purge(ctx, partKey(name, part))
	}
	if err != nil {
		m.log.WarnContext(ctx, "the plan of an import was not removed; the next start does it", "import", name, "error", err)
	}
}

// resume finishes the plans that have a head and takes away old parts that have none.
func (m *Importer) resume(ctx context.Context) error {
	r := m.registry
	r.mu.RLock()
	plans := maps.Clone(r.plans)
	r.mu.RUnlock()
	for _, key := range slices.Sorted(maps.Keys(plans)) {
		if name, ok := strings.CutPrefix(key, planHead); ok {
			if err := m.finish(ctx, name); err != nil {
				return fmt.Errorf("finish an import: %w", err)
			}
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(key, planPart), ".")
		if _, decided := plans[planHead+name]; !decided && time.Since(plans[key]) > strayAfter {
			if err := r.kv.Purge(ctx, key); err != nil {
				return fmt.Errorf("take an import's plan away: %w", err)
			}
		}
	}
	return nil
}

func (m *Importer) finish(ctx context.Context, name string) error {
	var head importHead
	err := m.read(ctx, planHead+name, &head)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil // another hub did
	}
	if err != nil {
		return err
	}
	var plan []planned
	for part := range head.Parts {
		var some []planned
		err := m.read(ctx, partKey(name, part+1), &some)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			if m.read(ctx, planHead+name, &head) == nil { // else another hub has just finished it
				m.log.ErrorContext(ctx, "a part of an import's plan is missing, its devices are not made; import them again", "import", name, "part", part+1, "of", head.Parts)
				continue
			}
			return nil
		}
		if err != nil {
			return err
		}
		plan = append(plan, some...)
	}
	written, err := m.apply(ctx, plan)
	if err != nil {
		return err
	}
	m.log.InfoContext(ctx, "an import that was interrupted is finished", "import", name, "devices", head.Devices, "written", len(written))
	m.discard(ctx, name, head.Parts)
	return nil
}

func (m *Importer) read(ctx context.Context, key string, to any) error {
	e, err := m.registry.kv.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(e.Value(), to); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// apply writes the devices of a plan that are still at the revision that it names, and returns which they were.
func (m *Importer) apply(ctx context.Context, plan []planned) (written map[string]bool, err error) {
	for try := range updateTries {
		open := slices.DeleteFunc(slices.Clone(plan), func(p planned) bool {
			return m.registry.lastRevision(p.Device.ID) != p.Revision
		})
		if len(open) == 0 {
			return m.written(plan), nil
		}
		err = nil
		for some := range slices.Chunk(open, importBatch) {
			if err = m.write(ctx, some); err != nil {
				break
			}
		}
		if err == nil {
			continue
		}
		select {
		case <-time.After(rand.N(min(2*time.Millisecond<<min(try, 10), updatePause))):
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
	return nil, err
}

// written are the devices that the mirror has as the plan has them.
func (m *Importer) written(plan []planned) map[string]bool {
	ids := make(map[string]bool, len(plan))
	for _, p := range plan {
		d, ok := m.registry.Get(p.Device.ID)
		ids[p.Device.ID] = ok && d.equal(p.Device)
	}
	return ids
}

// write puts some devices in one commit, or where that fails (the NATS is old; one was changed by others) one by one.
func (m *Importer) write(ctx context.Context, some []planned) error {
	r := m.registry
	keys, values, revisions := make([]string, len(some)), make([][]byte, len(some)), make([]uint64, len(some))
	for i, p := range some {
		value, err := json.Marshal(p.Device)
		if err != nil {
			return fmt.Errorf("encode device %s: %w", p.Device.ID, err)
		}
		keys[i], values[i], revisions[i] = keyOf(p.Device.ID), value, p.Revision
	}
	if last, err := m.batch.PutAll(ctx, keys, values, revisions); err == nil {
		for i, p := range some {
			r.keep(p.Device, last-uint64(len(some)-1-i))
			r.tell(ctx, p.Device.ID)
		}
		return nil
	}
	for i, p := range some {
		revision, err := r.kv.Update(ctx, keys[i], values[i], revisions[i])
		switch {
		case err == nil:
			r.keep(p.Device, revision)
			r.tell(ctx, p.Device.ID)
		case errors.Is(err, jetstream.ErrKeyExists): // it is at another revision; perhaps the batch was written all the same
			if err := r.reload(ctx, p.Device.ID); err != nil {
				return err
			}
		default:
			return fmt.Errorf("write device %s: %w", p.Device.ID, err)
		}
	}
	return nil
}

// reload brings a device's last record into the mirror, also that of its deletion.
func (r *Registry) reload(ctx context.Context, id string) error {
	last, err := r.kv.History(ctx, keyOf(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read device %s: %w", id, err)
	}
	for _, e := range last {
		r.take(e)
	}
	return nil
}

func (d Device) equal(other Device) bool {
	return slices.EqualFunc(d.Tokens, other.Tokens, Token.equal) && slices.EqualFunc(d.Certificates, other.Certificates, Certificate.equal) && d.Type == other.Type && d.Enabled == other.Enabled &&
		slices.Equal(d.Tags, other.Tags) && maps.Equal(d.Attributes, other.Attributes)
}
