package mend

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"
)

// indexFile is what the server knows of a stream's blocks, written from time to time and when it stops:
//
//	magic version messages bytes first first-time last … newest-block last-checksum(8) hash(8)
//
// Where the last checksum is the last one of the newest block, it trusts the index and reads no block until one is asked for.
// Else it reads them all (filestore.go, recoverFullState).
const indexFile = "index.db"

const (
	indexMagic       = 11
	indexVersionMost = 4
)

// trusted returns the stream's last sequence by its index, if the server will trust it; else 0.
func trusted(stream, folder string, newest int) (last uint64, err error) {
	data, err := os.ReadFile(filepath.Join(folder, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what nats knows of %s: %w", stream, err)
	}
	const least = 2 + 2*checksumSize
	if len(data) < least || data[0] != indexMagic || data[1] > indexVersionMost {
		return 0, nil
	}
	body, hash := data[:len(data)-checksumSize], data[len(data)-checksumSize:]
	key := sha256.Sum256([]byte(stream))
	h, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return 0, fmt.Errorf("hash of %s: %w", stream, err)
	}
	if !bytes.Equal(sum(h, body), hash) {
		return 0, nil
	}
	end, err := lastBytes(blockPath(folder, newest), checksumSize)
	if err != nil || !bytes.Equal(end, body[len(body)-checksumSize:]) {
		return 0, err
	}
	body = body[2:]
	for range 5 { // messages, bytes, first, first time, last
		v, n := binary.Uvarint(body)
		if n <= 0 {
			return 0, nil
		}
		last, body = v, body[n:]
	}
	return last, nil
}

// lastBytes returns the last n bytes of a file, nothing of a shorter one.
func lastBytes(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a block's end: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a block's end: %w", err)
	}
	if info.Size() < n {
		return nil, nil
	}
	end := make([]byte, n)
	if _, err := f.ReadAt(end, info.Size()-n); err != nil {
		return nil, fmt.Errorf("read the end of %s: %w", path, err)
	}
	return end, nil
}
