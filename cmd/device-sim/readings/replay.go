package readings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"telemetryhub/wire"
)

// replayNames are the fields of a row, columns 5 to 12 of the file.
var replayNames = [...]string{"Temp", "RelH", "L1", "L2", "Occ", "Act", "Door", "Win"}

const (
	columns     = 4 + len(replayNames) // EID, AbsT, RelT, NID, and the fields
	columnTime  = 1
	columnNode  = 3
	columnField = 4

	maxRows = 5_000_000 // rows of one file; each takes 72 bytes
)

// Row is one reading of a file.
type Row struct {
	At     int64 // ms since the epoch, as the file says
	Values [len(replayNames)]float64
}

// Node is one device of a file. Reading n is row n; after the last row it begins again with the first.
type Node struct {
	Device string
	Rows   []Row
}

// Step is one line of a file, in the file's order.
type Step struct {
	Node, Row int
}

// File is a replay: its nodes, and the order in which their readings came.
type File struct {
	Path     string
	Location string
	Nodes    []*Node
	Steps    []Step
}

// ReadFile reads a CSV file as testdata/room-climate/README.md describes it. The location, which names the devices
// (LOCATION-NODE), is what follows "location_" in the file's name, else the whole name.
func ReadFile(path string) (*File, error) {
	source, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the replay: %w", err)
	}
	defer func() { _ = source.Close() }() // nothing was written
	return Read(path, source)
}

// Read reads a replay; path names it and gives the location.
func Read(path string, source io.Reader) (*File, error) {
	f := &File{Path: path, Location: locationOf(path)}
	nodes := make(map[string]int)
	scanner := bufio.NewScanner(source)
	for line := 1; scanner.Scan(); line++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" {
			continue
		}
		if len(f.Steps) == maxRows {
			return nil, fmt.Errorf("%s:%d: more than %d readings; split the file", path, line, maxRows)
		}
		node, row, err := parseRow(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, line, err)
		}
		index, known := nodes[node]
		if !known {
			device := f.Location + "-" + node
			if err := wire.CheckDeviceID(device); err != nil {
				return nil, fmt.Errorf("%s:%d: node %q makes no device: %w", path, line, node, err)
			}
			index = len(f.Nodes)
			nodes[node] = index
			f.Nodes = append(f.Nodes, &Node{Device: device})
		}
		f.Steps = append(f.Steps, Step{Node: index, Row: len(f.Nodes[index].Rows)})
		f.Nodes[index].Rows = append(f.Nodes[index].Rows, row)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(f.Steps) == 0 {
		return nil, fmt.Errorf("%s: no readings in it", path)
	}
	return f, nil
}

func parseRow(text string) (node string, row Row, err error) {
	cells := strings.Split(text, ",")
	if len(cells) != columns {
		return "", Row{}, fmt.Errorf("%d columns, want %d (EID, AbsT, RelT, NID, %s)", len(cells), columns, strings.Join(replayNames[:], ", "))
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	row.At, err = strconv.ParseInt(cells[columnTime], 10, 64)
	if err != nil {
		return "", Row{}, fmt.Errorf("column AbsT: %q is no time in ms since the epoch", cells[columnTime])
	}
	if cells[columnNode] == "" {
		return "", Row{}, errors.New("column NID is empty")
	}
	for i, name := range replayNames {
		value, err := strconv.ParseFloat(cells[columnField+i], 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			return "", Row{}, fmt.Errorf("column %s: %q is no number", name, cells[columnField+i])
		}
		row.Values[i] = value
	}
	return cells[columnNode], row, nil
}

func locationOf(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if _, after, found := strings.Cut(name, "location_"); found {
		name, _, _ = strings.Cut(after, "-")
	}
	return regexp.MustCompile(`[^A-Za-z0-9._:]+`).ReplaceAllString(name, "_")
}

// Span gives the file's oldest and newest time.
func (f *File) Span() (oldest, newest int64) {
	oldest, newest = math.MaxInt64, math.MinInt64
	for _, node := range f.Nodes {
		for i := range node.Rows {
			oldest, newest = min(oldest, node.Rows[i].At), max(newest, node.Rows[i].At)
		}
	}
	return oldest, newest
}

// At is the time of a step as the file says it.
func (f *File) At(s Step) int64 { return f.Nodes[s.Node].Rows[s.Row].At }

// Names says the fields.
func (*Node) Names() []string { return replayNames[:] }

// Values appends the values of reading n.
func (d *Node) Values(dst []float64, n uint64) []float64 { return append(dst, d.row(n).Values[:]...) }

// AppendValues appends the JSON object of reading n.
func (d *Node) AppendValues(dst []byte, n uint64) []byte {
	for i, value := range d.row(n).Values {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		dst = append(dst, before, '"')
		dst = append(dst, replayNames[i]...)
		dst = append(dst, '"', ':')
		dst = appendNumber(dst, value)
	}
	return append(dst, '}')
}

func (d *Node) row(n uint64) *Row { return &d.Rows[(n-1)%uint64(len(d.Rows))] }
