// Package forgetfs is a file system that forgets, at a power cut, what was not brought to the disk by fsync.
//
// kill -9 ends a process but keeps the kernel's page cache, so that it never shows a missing fsync. On this file system
// it does: [Disk] keeps of each file what was last synced beside what was last written, and [Disk.Forget] goes back to
// the former. A file's data and size are kept by its own fsync, or by each write through a handle opened with O_SYNC or
// O_DSYNC. A name (created, removed or renamed) is kept by the fsync of its folder. As on ext4, xfs and btrfs, fsync of
// a file also keeps the file's own name and those of the folders above it; nothing else is kept by chance, although
// those file systems would often do so: their journal takes older changes along.
//
// All is in memory, a file that is written twice over: it is for tests, of some hundred MB. There are no hard links,
// symbolic links, extended attributes or owners, and modes and times are not forgotten. Writes that a process makes
// through a shared mapping arrive when the kernel pleases.
//
// Rule for overload: none; it takes what memory there is.
//
// Files: disk.go (what is there and what would be left), span.go (what of a file is not synced), cut.go (the power cut),
// node_linux.go (what the kernel asks), mount_linux.go and mount_other.go.
package forgetfs
