package mend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Report is what a look through a store found.
type Report struct {
	Read             int64             // bytes of blocks that were looked through
	Restored, Erased map[string]uint64 // records by stream
}

// mender looks through one store.
type mender struct {
	aside    string
	subjects map[string]Subjects
	log      *slog.Logger
	report   Report
	left     *effort
	buffer   []byte // of one block
	said     int    // records that were told of

	good    uint64     // records that held, in all streams
	unclear []position // blocks in which none did, and which wait for that others do
}

// position is a place to look through.
type position struct {
	stream *stream
	block  int
	last   uint64 // the highest sequence before it
}

// stream is one that is looked through.
type stream struct {
	name   string
	folder string // of its blocks
	blocks []int  // numbers, ascending
	sealed uint64 // its last sequence, where the newest block is known to be written to its end; else 0
	last   uint64 // the highest sequence met
	erased bool   // something was
}

// sealedEnough is how many bytes of the newest blocks of each stream are looked through when the server was stopped in
// order and will read no block by itself: older ones it can still pass over when it meets them.
const sealedEnough = 256 << 20

// blockMost is the size above which a file is no block of the server's.
const blockMost = recordMost

// Store mends the blocks of all streams of the file store in dir, whose server must not be running. It is told the subjects
// by stream, as what the server has written down of them may be damaged itself. Copies of damaged blocks go to the folder
// aside. After an error the server must not be started: it might cut off what could have been mended.
func Store(dir, aside string, subjects map[string]Subjects, log *slog.Logger) (Report, error) {
	m := &mender{
		aside: aside, subjects: subjects, log: log, left: effortOfStart(),
		report: Report{Restored: map[string]uint64{}, Erased: map[string]uint64{}},
	}
	folders, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*"))
	if err != nil {
		return m.report, fmt.Errorf("find the streams in %s: %w", dir, err)
	}
	var streams []*stream
	for _, folder := range folders {
		s, err := m.open(folder)
		if err != nil {
			return m.report, err
		}
		if s == nil {
			continue
		}
		streams = append(streams, s)
		if err := m.stream(s); err != nil {
			return m.report, err
		}
	}
	for _, p := range m.unclear {
		if m.good == 0 {
			m.log.Error("no record in this block can be read, nor in any other; it is left as it is", "stream", p.stream.name, "block", p.block)
			continue
		}
		p.stream.last = p.last
		if err := m.block(p.stream, p.block); err != nil {
			return m.report, err
		}
	}
	for _, s := range streams {
		if err := s.distrust(); err != nil {
			return m.report, err
		}
	}
	return m.report, nil
}

// open returns nil for a stream whose blocks are none that can be read here.
func (m *mender) open(folder string) (*stream, error) {
	s := &stream{name: filepath.Base(folder), folder: filepath.Join(folder, "msgs")}
	if strings.HasPrefix(s.name, ".") {
		return nil, nil // the server is about to remove it
	}
	entries, err := os.ReadDir(s.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the blocks of %s: %w", s.name, err)
	}
	for _, e := range entries {
		if number, is := strings.CutSuffix(e.Name(), blockSuffix); is {
			if n, err := strconv.Atoi(number); err == nil && e.Type().IsRegular() {
				s.blocks = append(s.blocks, n)
			}
		}
	}
	slices.Sort(s.blocks)
	if _, err := os.Stat(filepath.Join(folder, "meta.key")); err == nil || compressed(folder) {
		m.log.Info("a stream is encrypted or compressed; it is not looked through for damage", "stream", s.name)
		return nil, nil
	}
	if len(s.blocks) == 0 {
		return nil, nil
	}
	s.sealed, err = trusted(s.name, s.folder, s.newest())
	return s, err
}

func (s *stream) newest() int { return s.blocks[len(s.blocks)-1] }

// compressed reads it from the stream's configuration. One that cannot be read, or says what it cannot, has been damaged
// itself: then the blocks show it (compressedMark).
func compressed(folder string) bool {
	var config struct {
		Compression string `json:"compression"`
	}
	data, err := os.ReadFile(filepath.Join(folder, "meta.inf"))
	return err == nil && json.Unmarshal(data, &config) == nil && config.Compression == "s2"
}

// compressedMark is what a compressed block begins with.
const compressedMark = "cmp"

const blockSuffix = ".blk"

func blockPath(folder string, number int) string {
	return filepath.Join(folder, strconv.Itoa(number)+blockSuffix)
}

// stream looks through the blocks that the server will read by itself, and through those that may hold the backlog.
func (m *mender) stream(s *stream) error {
	from := 0
	if s.sealed > 0 {
		size := int64(0)
		for from = len(s.blocks); from > 0 && size < sealedEnough; from-- {
			info, err := os.Stat(blockPath(s.folder, s.blocks[from-1]))
			if err != nil {
				return fmt.Errorf("look at the blocks of %s: %w", s.name, err)
			}
			size += info.Size()
		}
	}
	for _, n := range s.blocks[from:] { // ascending: a sequence that is not known comes from the one before
		if err := m.block(s, n); err != nil {
			return err
		}
	}
	if !s.erased {
		return nil
	}
	s.last = 0
	for _, n := range s.blocks[:from] { // the server will read all: see distrust
		if err := m.block(s, n); err != nil {
			return err
		}
	}
	return nil
}

// distrust takes the index away that does not know what has been erased, so that the server reads the blocks. One that the
// server does not trust stays: it still takes the last sequence from it.
func (s *stream) distrust() error {
	if !s.erased {
		return nil
	}
	last, err := trusted(s.name, s.folder, s.newest())
	if err != nil || last == 0 {
		return err
	}
	if err := os.Remove(filepath.Join(s.folder, indexFile)); err != nil {
		return fmt.Errorf("take away what nats knows of %s from before it was mended: %w", s.name, err)
	}
	return syncFolder(s.folder)
}

// block looks through one block and mends it.
func (m *mender) block(s *stream, number int) error {
	path := blockPath(s.folder, number)
	data, err := m.read(path)
	if err != nil || len(data) == 0 {
		return err
	}
	b := &block{proof: proof{hash: newHash(s.name, number), subjects: m.subjects[s.name]}, data: data, left: m.left, last: s.last}
	if number == s.newest() {
		b.sealed = s.sealed
	}
	b.mend()
	m.report.Read += int64(len(data))
	m.good += uint64(b.good)
	if b.good == 0 && bytes.HasPrefix(data, []byte(compressedMark)) {
		m.log.Info("a block is compressed; it is not looked through for damage", "stream", s.name, "block", number)
		return nil
	}
	if b.good == 0 && m.good == 0 {
		m.unclear = append(m.unclear, position{s, number, s.last})
		return nil
	}
	s.last = max(s.last, b.last)
	if b.torn > 0 {
		m.log.Info("a block ends with what was not written whole; nats cuts it off", "stream", s.name, "block", number, "bytes", b.torn)
	}
	if len(b.changes) == 0 {
		return nil
	}
	kept, err := keepAside(m.aside, s.name, path)
	if err != nil {
		return err
	}
	if err := b.note(kept, s.name); err != nil {
		return err
	}
	if err := b.write(path); err != nil {
		return err
	}
	for _, c := range b.changes {
		m.tell(s, number, c, kept)
	}
	return nil
}

// read reads a block into the buffer. One that is too large for a block is left alone: nothing is returned.
func (m *mender) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a block: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a block: %w", err)
	}
	size := info.Size()
	if size > blockMost {
		m.log.Error("a file is too large for a block; it is not looked through for damage", "file", path, "bytes", size)
		return nil, nil
	}
	m.buffer = slices.Grow(m.buffer[:0], int(size))[:size]
	if _, err := io.ReadFull(f, m.buffer); err != nil {
		return nil, fmt.Errorf("read the block %s: %w", path, err)
	}
	return m.buffer, nil
}

// write writes what was changed, in place: a crash in between leaves damage that the next start mends.
func (b *block) write(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("mend a block: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, c := range b.changes {
		if _, err := f.WriteAt(b.data[c.at:c.at+c.length], int64(c.at)); err != nil {
			return fmt.Errorf("mend the block %s: %w", path, err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("mend the block %s: %w", path, err)
	}
	return nil
}

// saidMost bounds the lines in the log; the metric counts all.
const saidMost = 100

func (m *mender) tell(s *stream, number int, c change, kept string) {
	if c.restored {
		m.report.Restored[s.name]++
	} else {
		m.report.Erased[s.name]++
		s.erased = true
	}
	if m.said++; m.said > saidMost {
		return
	}
	log := m.log.With("stream", s.name, "sequence", c.sequence, "block", number, "at", c.at, "bytes", c.length, "copy", kept)
	if c.restored {
		log.Warn("a record was damaged on the disk and has been put right")
	} else {
		log.Error("a record was damaged on the disk and is lost; those behind it are kept")
	}
}
