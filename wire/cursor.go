package wire

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// checker says whether a frame is one strict JSON value. It is kept for its buffers.
type checker struct {
	dec *jsontext.Decoder
	buf bytes.Buffer
}

// check returns the whole value of data without white space around it.
func (c *checker) check(data []byte) ([]byte, *Error) {
	c.buf = *bytes.NewBuffer(data)
	if c.dec == nil {
		c.dec = jsontext.NewDecoder(&c.buf)
	} else {
		c.dec.Reset(&c.buf)
	}
	v, err := c.dec.ReadValue()
	if err != nil {
		return nil, jsonError(data, err)
	}
	// The decoder reads ahead of nothing: what follows the value must be white space.
	end := int(c.dec.InputOffset())
	if rest := bytes.TrimLeft(data[end:], " \t\r\n"); len(rest) > 0 {
		if !utf8.Valid(rest) {
			return nil, badUTF8()
		}
		return nil, &Error{Code: CodeParse, Reason: ReasonBadJSON, Message: fmt.Sprintf("more than one JSON value: %q follows at byte %d", rest[0], len(data)-len(rest))}
	}
	return data[end-len(v) : end], nil
}

func badUTF8() *Error {
	return &Error{Code: CodeParse, Reason: ReasonBadUTF8, Message: "text is not UTF-8"}
}

func jsonError(data []byte, err error) *Error {
	if !utf8.Valid(data) {
		return badUTF8()
	}
	e := &Error{Code: CodeParse, Reason: ReasonBadJSON, Message: "not JSON"}
	if len(data) == 0 {
		e.Message = "an empty frame is not JSON"
		return e
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		e.Message = fmt.Sprintf("not JSON at byte %d", syntactic.ByteOffset)
		if syntactic.Err != nil {
			e.Message += ": " + syntactic.Err.Error()
		}
	}
	return e
}

// cursor walks JSON text that a checker has passed, or that a transcoder has written, with its words that are not
// JSON's; on any other text its results are undefined, though it never reads outside of it, never stands still, and
// finds no value empty.
type cursor struct {
	text []byte
	at   int
}

func (c *cursor) space() {
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case ' ', '\t', '\r', '\n', ',', ':':
			c.at++
		default:
			return
		}
	}
}

// kind returns the first byte of the next value, or of the bracket that ends the current one; 0 at the end.
func (c *cursor) kind() byte {
	c.space()
	if c.at >= len(c.text) {
		return 0
	}
	return c.text[c.at]
}

// enter steps into an object or array.
func (c *cursor) enter() {
	c.space()
	c.at++
}

// more reports whether the object or array that was entered has another member; if not, it steps out.
func (c *cursor) more() bool {
	switch c.kind() {
	case '}', ']', 0:
		c.at++
		return false
	}
	return true
}

// quoted returns the next string with its quotes, as it stands in the text.
func (c *cursor) quoted() []byte {
	c.space()
	from := c.at
	c.at++
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case '\\':
			c.at += 2
		case '"':
			c.at++
			return c.text[from:c.at]
		default:
			c.at++
		}
	}
	c.at = len(c.text)
	return c.text[min(from, c.at):]
}

// value returns the next value as it stands in the text and steps over it; null where there is none.
func (c *cursor) value() []byte {
	switch c.kind() {
	case 0, '}', ']':
		return []byte("null")
	case '"':
		return c.quoted()
	case '{', '[':
		return c.bracketed(c.at)
	}
	from := c.at
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return c.text[from:c.at]
		case '(': // the content of a tag
			return c.bracketed(from)
		}
		c.at++
	}
	return c.text[from:]
}

// bracketed steps over a bracket and all within it, and returns the text since from.
func (c *cursor) bracketed(from int) []byte {
	depth := 0
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case '"':
			c.quoted()
			continue
		case '{', '[', '(':
			depth++
		case '}', ']', ')':
			depth--
		}
		c.at++
		if depth == 0 {
			return c.text[from:c.at]
		}
	}
	return c.text[from:]
}

// unquote returns the text of a quoted string: a view where it has no escapes, else appended to scratch, which it
// returns too.
func unquote(scratch, quoted []byte) (text, grown []byte) {
	if len(quoted) < 2 {
		return nil, scratch
	}
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner, scratch
	}
	from := len(scratch)
	scratch, _ = jsontext.AppendUnquote(scratch, quoted) // checked before: it cannot fail
	return scratch[from:len(scratch):len(scratch)], scratch
}
