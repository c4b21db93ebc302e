package commands

// maxKeys bounds the Idempotency-Keys in memory; beyond it the oldest are forgotten before their time.
const maxKeys = 200_000

// keys remembers which command an Idempotency-Key of a device stands for. It is guarded by Service.mu.
type keys struct {
	ids   map[deviceKey]string
	order []keyed // as they came, which is about the order of ids
}

type deviceKey struct{ device, key string }

type keyed struct {
	deviceKey
	id string
}

func newKeys() keys { return keys{ids: map[deviceKey]string{}} }

func (k *keys) find(device, key string) (id string, ok bool) {
	id, ok = k.ids[deviceKey{device, key}]
	return id, ok
}

func (k *keys) add(device, key, id string) {
	dk := deviceKey{device, key}
	k.ids[dk] = id
	k.order = append(k.order, keyed{dk, id})
	if len(k.order) > maxKeys {
		k.drop()
	}
}

func (k *keys) remove(device, key, id string) {
	dk := deviceKey{device, key}
	if k.ids[dk] == id {
		delete(k.ids, dk)
	}
}

// forget drops the keys of commands made before the one that id stands for.
func (k *keys) forget(id string) {
	for len(k.order) > 0 && k.order[0].id < id {
		k.drop()
	}
}

func (k *keys) drop() {
	oldest := k.order[0]
	k.order[0] = keyed{}
	k.order = k.order[1:]
	k.remove(oldest.device, oldest.key, oldest.id)
}
