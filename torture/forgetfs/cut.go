package forgetfs

import (
	"bytes"
	"maps"
)

// Forgotten says what a power cut took.
type Forgotten struct {
	Bytes int64 // written and not synced
	Names int   // created, removed or renamed, and the folder not synced
}

// Cut is the moment of the power cut: from now on nothing reaches the disk. Whoever writes or syncs waits for Release,
// so that no process goes on with the knowledge of the cut; kill it meanwhile.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut == nil {
		d.cut = make(chan struct{})
	}
}

// Release lets those who wait since Cut fail with EIO, so that killed processes can end.
func (d *Disk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.cut)
}

// Forget goes back to what was on the disk at Cut. The file system may not be mounted: the kernel would remember.
func (d *Disk) Forget() Forgotten {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lost Forgotten
	d.root.count(&lost)
	d.root.forget()
	d.cut = nil
	return lost
}

// change runs f, which changes the disk. It returns false once the power is cut: then f was not run.
func (d *Disk) change(f func()) bool {
	d.mu.Lock()
	if cut := d.cut; cut != nil {
		d.mu.Unlock()
		<-cut
		return false
	}
	defer d.mu.Unlock()
	f()
	return true
}

// count adds up what o and all in it would lose.
func (o *object) count(lost *Forgotten) {
	lost.Bytes += o.dirty.size(int64(len(o.data)))
	for name, child := range o.names {
		if o.kept[name] != child {
			lost.Names++
		}
		child.count(lost)
	}
	for name := range o.kept {
		if o.names[name] == nil {
			lost.Names++
		}
	}
}

// forget makes o and all in it what is on the disk.
func (o *object) forget() {
	o.at = o.keptAt
	o.data, o.dirty = bytes.Clone(o.synced), nil
	o.names = maps.Clone(o.kept)
	for _, child := range o.kept {
		child.forget()
	}
}
