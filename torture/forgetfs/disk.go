package forgetfs

import (
	"maps"
	"sync"
	"time"
)

// Disk holds a tree of files twice: as it is, and as a power cut would leave it. It outlives its mounts.
type Disk struct {
	syncTime time.Duration

	mu   sync.Mutex
	root *object
	last uint64        // the newest object's number
	cut  chan struct{} // not nil from Cut to Forget; closed by Release
}

// NewDisk makes an empty disk. A sync takes syncTime, as disks do: what is written and not yet synced is what a power cut
// should find.
func NewDisk(syncTime time.Duration) *Disk {
	d := &Disk{syncTime: syncTime}
	d.root = d.newObject(true, 0o755)
	return d
}

// object is a file or a folder. Its disk's mu guards it.
type object struct {
	number  uint64
	folder  bool
	mode    uint32 // permissions
	changed time.Time

	data   []byte // of a file
	synced []byte // of a file: its data on the disk
	dirty  spans  // where the two differ

	names map[string]*object // of a folder
	kept  map[string]*object // of a folder: its names on the disk

	at     place // where it is; the zero place when it was removed
	keptAt place // where it is on the disk
}

// place is a name in a folder.
type place struct {
	folder *object
	name   string
}

func (d *Disk) newObject(folder bool, mode uint32) *object {
	d.last++
	o := &object{number: d.last, folder: folder, mode: mode & 0o7777, changed: time.Now()}
	if folder {
		o.names, o.kept = map[string]*object{}, map[string]*object{}
	}
	return o
}

// put gives o a name; what had it is removed, and o leaves the place it had.
func (o *object) put(folder *object, name string) {
	if o.at.folder != nil {
		delete(o.at.folder.names, o.at.name)
	}
	if old := folder.names[name]; old != nil && old != o {
		old.at = place{}
	}
	o.at = place{folder, name}
	folder.names[name] = o
	folder.changed = time.Now()
}

func (o *object) remove() {
	delete(o.at.folder.names, o.at.name)
	o.at.folder.changed = time.Now()
	o.at = place{}
}

func (o *object) write(data []byte, off int64) {
	end := off + int64(len(data))
	from := min(off, int64(len(o.data))) // a gap is part of it
	if end > int64(len(o.data)) {
		o.grow(end)
	}
	copy(o.data[off:], data)
	o.dirty = o.dirty.with(from, end)
	o.changed = time.Now()
}

func (o *object) truncate(size int64) {
	if before := int64(len(o.data)); size != before {
		o.dirty = o.dirty.with(min(before, size), toEnd)
	}
	if size <= int64(len(o.data)) {
		clear(o.data[size:]) // what it grows by later is zeros
		o.data = o.data[:size]
	} else {
		o.grow(size)
	}
	o.changed = time.Now()
}

func (o *object) grow(size int64) {
	if size <= int64(cap(o.data)) {
		o.data = o.data[:size]
		return
	}
	larger := make([]byte, size, max(size, int64(cap(o.data))*3/2))
	copy(larger, o.data)
	o.data = larger
}

// sync brings o to the disk.
func (o *object) sync() {
	if o.folder {
		o.syncNames()
	} else {
		o.syncData()
	}
	for up := o; up.at.folder != nil; up = up.at.folder {
		up.keep(up.at)
	}
}

func (o *object) syncData() {
	size := int64(len(o.data))
	if int64(cap(o.synced)) < size {
		larger := make([]byte, size, max(size, int64(cap(o.data))))
		copy(larger, o.synced)
		o.synced = larger
	}
	o.synced = o.synced[:size]
	for _, s := range o.dirty {
		if to := min(s.to, size); to > s.from {
			copy(o.synced[s.from:to], o.data[s.from:to])
		}
	}
	o.dirty = o.dirty[:0]
}

func (o *object) syncNames() {
	for name, child := range maps.Clone(o.kept) {
		if o.names[name] != child {
			child.keep(place{})
		}
	}
	for name, child := range o.names {
		child.keep(place{o, name})
	}
}

// keep moves o to where it is on the disk from now on; what had that name there is no more.
func (o *object) keep(at place) {
	if o.keptAt == at {
		return
	}
	if o.keptAt.folder != nil {
		delete(o.keptAt.folder.kept, o.keptAt.name)
	}
	if o.keptAt = at; at.folder == nil {
		return
	}
	if old := at.folder.kept[at.name]; old != nil {
		old.keptAt = place{}
	}
	at.folder.kept[at.name] = o
}
