package wire

import "errors"

// Text checks that data is one value of JSON, or of CBOR, and returns it as JSON text: a view into data, or into the
// decoder until its next call. What only CBOR has (bytes, tags, NaN) stands in it in the words of its diagnostic
// notation (RFC 8949 section 8), and is a flaw of the reading that bears it; if strict, it is an error. The error is of
// type [*Error].
func (d *Decoder) Text(data []byte, cbor, strict bool) ([]byte, error) {
	text, e := d.open(data, Dialect{CBOR: cbor})
	if e == nil && strict && cbor && d.cbor.loose {
		text, e = d.cbor.text(data, false, true)
	}
	if e != nil {
		return nil, e
	}
	return text, nil
}

// Cursor walks JSON text that [Decoder.Text] has passed; on any other its results are undefined, but it reads nothing
// outside of the text and never stands still.
type Cursor struct{ c cursor }

// Walk begins at the start of text.
func Walk(text []byte) Cursor { return Cursor{cursor{text: text}} }

// Kind returns the first byte of the next value, or of the bracket that ends the current one; 0 at the end.
func (c *Cursor) Kind() byte { return c.c.kind() }

// Enter steps into an object or list.
func (c *Cursor) Enter() { c.c.enter() }

// More reports whether the object or list that was entered has another member; if not, it steps out.
func (c *Cursor) More() bool { return c.c.more() }

// Name returns the name of the next member, with its quotes.
func (c *Cursor) Name() []byte { return c.c.quoted() }

// Value returns the next value as it stands in the text and steps over it; null where there is none.
func (c *Cursor) Value() []byte { return c.c.value() }

// AppendQuoted appends text as a JSON string; bytes that are not UTF-8 become U+FFFD.
func AppendQuoted(dst, text []byte) []byte { return appendText(dst, text) }

// AppendUnquoted appends the text of a JSON string that a [Cursor] has returned.
func AppendUnquoted(dst, quoted []byte) []byte {
	text, grown := unquote(dst, quoted)
	if len(grown) > len(dst) {
		return grown
	}
	return append(dst, text...)
}

// ReasonOf returns the reason of an [*Error], [ReasonBadFrame] of any other.
func ReasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonBadFrame
}
