package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Major types of CBOR's data items (RFC 8949 section 3.1).
const (
	majorUnsigned = iota
	majorNegative
	majorBytes
	majorText
	majorList
	majorMap
	majorTag
	majorSimple
)

// indefinite is the additional information of an item whose end is told by a break (section 3.2).
const indefinite = 31

// Tags that mean something to the hub (section 3.4).
const (
	tagTimeText    = 0 // RFC 3339
	tagTimeSeconds = 1 // since the epoch
	tagNegativeBig = 3
	tagDecimal     = 4 // [exponent, mantissa] of ten
)

// MaxNesting is how deeply the lists, maps and tags of a CBOR frame may be nested.
const MaxNesting = 256

// transcoder rewrites one CBOR data item as the JSON text of the same value, so that whatever holds for JSON, each
// limit, flaw and reason, holds for CBOR by the same lines of code; and so that what an operator is shown of a reading
// is text. It checks what the JSON checker checks: well-formed, UTF-8, names that are texts and not given twice.
//
// A float of 32 bits becomes the shortest decimal that stands for it, unless it is a whole number: a sensor that
// measured 20.48 in 32 bits meant 20.48, as it would have written in JSON, and not 20.479999542236328. Of 16 bits it is
// taken exactly: nobody measures in them, they come from encoders that shorten what loses nothing by it.
//
// JSON has no words for some values. Left so they are written in CBOR's diagnostic notation (section 8): NaN, Infinity,
// h'0102', simple(16), 37(…); the cursor walks over them, and a reading that holds one has a flaw. Else, for what is
// kept as JSON, they become what section 6.1 recommends: null, base64url, the content without its tag.
type transcoder struct {
	in    []byte
	at    int
	out   []byte
	names []nameAt // of the maps that are open
	chunk []byte   // text or bytes that came in pieces
	plain bool     // JSON's words only
	loose bool     // out has other words
	pack  bool     // in is a list of SenML records, whose labels may be numbers
}

// nameAt is where a name stands in out, with its quotes, and in the frame.
type nameAt struct{ from, to, at int }

// text returns data as text. It is valid until the next call.
func (c *transcoder) text(data []byte, senML, plain bool) ([]byte, *Error) {
	c.in, c.at, c.plain, c.loose, c.pack = data, 0, plain, false, false
	c.out, c.names = c.out[:0], c.names[:0]
	if len(data) == 0 {
		return nil, &Error{Code: CodeParse, Reason: ReasonBadCBOR, Message: "an empty frame is not CBOR"}
	}
	if selfDescribed := []byte{0xd9, 0xd9, 0xf7}; bytes.HasPrefix(data, selfDescribed) { // tag 55799, section 3.4.6
		c.at = len(selfDescribed)
	}
	c.pack = senML && c.at < len(data) && data[c.at]>>5 == majorList
	if e := c.item(0); e != nil {
		return nil, e
	}
	if c.at < len(data) {
		return nil, badCBOR(c.at, "%d bytes follow the end of the value", len(data)-c.at)
	}
	return c.out, nil
}

func badCBOR(at int, format string, args ...any) *Error {
	return &Error{Code: CodeParse, Reason: ReasonBadCBOR, Message: fmt.Sprintf("not CBOR at byte %d: ", at) + fmt.Sprintf(format, args...)}
}

// head reads the head of a data item (section 3): its major type, its additional information and its argument.
func (c *transcoder) head() (major, info byte, argument uint64, e *Error) {
	if c.at >= len(c.in) {
		return 0, 0, 0, badCBOR(c.at, "it ends where a value has to follow")
	}
	at := c.at
	major, info = c.in[at]>>5, c.in[at]&31
	c.at++
	if info < 24 {
		return major, info, uint64(info), nil
	}
	if info > 27 {
		if info == indefinite && (major >= majorBytes && major <= majorMap || major == majorSimple) {
			return major, info, 0, nil
		}
		return 0, 0, 0, badCBOR(at, "0x%02x begins no value", c.in[at])
	}
	size := 1 << (info - 24)
	if len(c.in)-c.at < size {
		return 0, 0, 0, badCBOR(at, "it ends within a number of %d bytes", size)
	}
	for _, b := range c.in[c.at : c.at+size] {
		argument = argument<<8 | uint64(b)
	}
	c.at += size
	return major, info, argument, nil
}

// item rewrites one data item.
func (c *transcoder) item(depth int) *Error {
	at := c.at
	major, info, argument, e := c.head()
	if e != nil {
		return e
	}
	if depth >= MaxNesting && major >= majorList && major <= majorTag {
		return badCBOR(at, "it is nested more than %d deep", MaxNesting)
	}
	switch major {
	case majorUnsigned:
		c.out = strconv.AppendUint(c.out, argument, 10)
	case majorNegative:
		c.negative(argument)
	case majorBytes, majorText:
		content, e := c.content(at, major, info, argument)
		if e != nil {
			return e
		}
		if major == majorText {
			c.out = appendText(c.out, content)
		} else {
			c.bytes(content)
		}
	case majorList:
		return c.list(info, argument, depth)
	case majorMap:
		return c.object(info, argument, depth)
	case majorTag:
		return c.tag(argument, depth)
	default:
		return c.simple(at, info, argument)
	}
	return nil
}

// negative writes -1-n, which may be one below what an int64 holds.
func (c *transcoder) negative(n uint64) {
	if n == math.MaxUint64 {
		c.out = append(c.out, "-18446744073709551616"...)
		return
	}
	c.out = append(c.out, '-')
	c.out = strconv.AppendUint(c.out, n+1, 10)
}

// content returns the content of a text or of bytes: a view of the frame, or of chunk where it came in pieces.
func (c *transcoder) content(at int, major, info byte, length uint64) ([]byte, *Error) {
	if info != indefinite {
		return c.piece(at, major, length)
	}
	c.chunk = c.chunk[:0]
	for !c.ends() {
		at := c.at
		m, i, n, e := c.head()
		if e != nil {
			return nil, e
		}
		if m != major || i == indefinite {
			return nil, badCBOR(at, "a text or bytes in pieces have a piece of another kind")
		}
		piece, e := c.piece(at, m, n)
		if e != nil {
			return nil, e
		}
		c.chunk = append(c.chunk, piece...)
	}
	return c.chunk, nil
}

func (c *transcoder) piece(at int, major byte, length uint64) ([]byte, *Error) {
	if length > uint64(len(c.in)-c.at) {
		return nil, badCBOR(at, "a text or bytes of %d bytes, of which %d follow", length, len(c.in)-c.at)
	}
	piece := c.in[c.at : c.at+int(length)]
	c.at += int(length)
	if major == majorText && !utf8.Valid(piece) {
		return nil, badCBOR(at, "a text is not UTF-8")
	}
	return piece, nil
}

// ends steps over the break that ends an item of indefinite length, if it is there.
func (c *transcoder) ends() bool {
	if c.at < len(c.in) && c.in[c.at] == majorSimple<<5|indefinite {
		c.at++
		return true
	}
	return false
}

// appendText appends text, which is UTF-8, as a JSON string.
func appendText(dst, text []byte) []byte {
	for _, b := range text {
		if b < ' ' || b == '"' || b == '\\' || b >= 0x7f {
			dst, _ = jsontext.AppendQuote(dst, text) // it is UTF-8: it cannot fail
			return dst
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}

func (c *transcoder) bytes(content []byte) {
	if c.plain {
		c.out = append(c.out, '"')
		c.out = base64.RawURLEncoding.AppendEncode(c.out, content)
		c.out = append(c.out, '"')
		return
	}
	c.out = append(c.out, "h'"...)
	c.out = hex.AppendEncode(c.out, content)
	c.out = append(c.out, '\'')
	c.loose = true
}

func (c *transcoder) list(info byte, count uint64, depth int) *Error {
	c.out = append(c.out, '[')
	for n := uint64(0); info != indefinite && n < count || info == indefinite && !c.ends(); n++ {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		if e := c.item(depth + 1); e != nil {
			return e
		}
	}
	c.out = append(c.out, ']')
	return nil
}

func (c *transcoder) object(info byte, count uint64, depth int) *Error {
	open := len(c.names)
	c.out = append(c.out, '{')
	for n := uint64(0); info != indefinite && n < count || info == indefinite && !c.ends(); n++ {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		name := nameAt{from: len(c.out), at: c.at}
		if e := c.name(depth); e != nil {
			return e
		}
		name.to = len(c.out)
		c.names = append(c.names, name)
		c.out = append(c.out, ':')
		if c.time(name) {
			continue
		}
		if e := c.item(depth + 1); e != nil {
			return e
		}
	}
	c.out = append(c.out, '}')
	if twice := c.twice(c.names[open:]); twice.to > 0 {
		return badCBOR(twice.at, "the name %s is given twice", clip(c.out[twice.from:twice.to]))
	}
	c.names = c.names[:open]
	return nil
}

// name rewrites the name of a member: a text, or in a SenML record the number of a label (RFC 8428 table 6).
func (c *transcoder) name(depth int) *Error {
	at := c.at
	major, info, argument, e := c.head()
	if e != nil {
		return e
	}
	if major == majorText {
		content, e := c.content(at, major, info, argument)
		if e == nil {
			c.out = appendText(c.out, content)
		}
		return e
	}
	if !c.pack || depth != 1 || major > majorNegative {
		return badCBOR(at, "the name of a member is not a text")
	}
	label := labelOf(major == majorNegative, argument)
	if label == "" {
		return badCBOR(at, "SenML has no such label (RFC 8428 table 6)")
	}
	c.out = append(c.out, '"')
	c.out = append(c.out, label...)
	c.out = append(c.out, '"')
	return nil
}

// twice returns the later of two equal names, or nothing. It may change the order of names.
func (c *transcoder) twice(names []nameAt) nameAt {
	const few = 8
	if len(names) <= few {
		for i, one := range names {
			for _, other := range names[:i] {
				if bytes.Equal(c.out[one.from:one.to], c.out[other.from:other.to]) {
					return one
				}
			}
		}
		return nameAt{}
	}
	slices.SortStableFunc(names, func(one, other nameAt) int {
		return bytes.Compare(c.out[one.from:one.to], c.out[other.from:other.to])
	})
	for i, one := range names[1:] {
		if before := names[i]; bytes.Equal(c.out[one.from:one.to], c.out[before.from:before.to]) {
			return one
		}
	}
	return nameAt{}
}

func (c *transcoder) tag(number uint64, depth int) *Error {
	if number == tagDecimal && c.decimal() {
		return nil
	}
	if c.plain {
		from := len(c.out)
		e := c.item(depth + 1)
		if e == nil && number == tagNegativeBig && c.out[from] == '"' {
			c.out = slices.Insert(c.out, from+1, '~') // section 6.1
		}
		return e
	}
	c.loose = true
	c.out = strconv.AppendUint(c.out, number, 10)
	c.out = append(c.out, '(')
	e := c.item(depth + 1)
	c.out = append(c.out, ')')
	return e
}

// appendHead appends the head of a CBOR data item in its shortest form (section 4.2.1).
func appendHead(dst []byte, major byte, argument uint64) []byte {
	major <<= 5
	switch {
	case argument < 24:
		return append(dst, major|byte(argument))
	case argument <= math.MaxUint8:
		return append(dst, major|24, byte(argument))
	case argument <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(argument))
	case argument <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(argument))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), argument)
}
