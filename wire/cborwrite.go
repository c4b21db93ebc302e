package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendCBOR appends text, one JSON value that was checked or that the hub wrote, as CBOR (RFC 8949 section 6.2): of
// definite lengths, each number in its shortest form that loses nothing, but floats in 32 or 64 bits only, as many
// small decoders know no others.
func AppendCBOR(dst, text []byte) []byte {
	c := cursor{text: text}
	return c.appendCBOR(dst)
}

func (c *cursor) appendCBOR(dst []byte) []byte {
	switch c.kind() {
	case '{':
		return c.appendAll(dst, majorMap)
	case '[':
		return c.appendAll(dst, majorList)
	case '"':
		return appendTextCBOR(dst, c.quoted())
	case 't':
		c.value()
		return append(dst, majorSimple<<5|21)
	case 'f':
		c.value()
		return append(dst, majorSimple<<5|20)
	case 0, 'n':
		c.value()
		return append(dst, majorSimple<<5|22)
	}
	return appendNumberCBOR(dst, c.value())
}

// appendAll appends an object or a list. How many members it has is known at its end: the head is put in then.
func (c *cursor) appendAll(dst []byte, major byte) []byte {
	from := len(dst)
	dst = append(dst, 0)
	count := uint64(0)
	for c.enter(); c.more(); count++ {
		if major == majorMap {
			dst = appendTextCBOR(dst, c.quoted())
		}
		dst = c.appendCBOR(dst)
	}
	var head [9]byte
	return slices.Replace(dst, from, from+1, appendHead(head[:0], major, count)...)
}

func appendTextCBOR(dst, quoted []byte) []byte {
	if len(quoted) < 2 {
		return appendHead(dst, majorText, 0)
	}
	if inner := quoted[1 : len(quoted)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return append(appendHead(dst, majorText, uint64(len(inner))), inner...)
	}
	from := len(dst)
	dst, _ = jsontext.AppendUnquote(dst, quoted) // checked before: it cannot fail
	var head [9]byte
	return slices.Insert(dst, from, appendHead(head[:0], majorText, uint64(len(dst)-from))...)
}

// appendNumberCBOR appends what is written without point and exponent as a whole number, if CBOR has it.
func appendNumberCBOR(dst, text []byte) []byte {
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	if !bytes.ContainsAny(digits, ".eE") {
		switch n, err := strconv.ParseUint(string(digits), 10, 64); {
		case err != nil:
		case !negative:
			return appendHead(dst, majorUnsigned, n)
		case n > 0:
			return appendHead(dst, majorNegative, n-1)
		}
	}
	f, _ := strconv.ParseFloat(string(text), 64) // beyond its range it is infinite
	if short := float32(f); float64(short) == f {
		return binary.BigEndian.AppendUint32(append(dst, majorSimple<<5|26), math.Float32bits(short))
	}
	return binary.BigEndian.AppendUint64(append(dst, majorSimple<<5|27), math.Float64bits(f))
}
