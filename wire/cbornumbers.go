package wire

import (
	"math"
	"strconv"
)

// decimal writes a decimal fraction of two whole numbers as the number that it is (section 3.4.4), 4([-2, 2048]) as
// 2048e-2. Where it is another it leaves all as it was.
func (c *transcoder) decimal() bool {
	at, out := c.at, len(c.out)
	var exponent int
	ok := c.at < len(c.in) && c.in[c.at] == majorList<<5|2
	c.at++
	for i := 0; ok && i < 2; i++ {
		major, _, n, e := c.head()
		ok = e == nil && major <= majorNegative && (i == 1 || n < math.MaxInt32)
		switch {
		case !ok:
		case i == 0 && major == majorUnsigned:
			exponent = int(n)
		case i == 0:
			exponent = -1 - int(n)
		case major == majorUnsigned:
			c.out = strconv.AppendUint(c.out, n, 10)
		default:
			c.negative(n)
		}
	}
	if !ok {
		c.at, c.out = at, c.out[:out]
		return false
	}
	if exponent != 0 {
		c.out = append(c.out, 'e')
		c.out = strconv.AppendInt(c.out, int64(exponent), 10)
	}
	return true
}

// time rewrites the value of ts if it is a number of seconds with tag 1 (section 3.4.2), which becomes ms as the hub's own
// model has it, or a text with tag 0, which loses the tag. It reports whether it is one of them.
func (c *transcoder) time(name nameAt) bool {
	at, out := c.at, len(c.out)
	if string(c.out[name.from:name.to]) != `"ts"` || at+1 >= len(c.in) || c.in[at]&^1 != majorTag<<5 {
		return false
	}
	tag, major := c.in[at]&1, c.in[at+1]>>5
	if number := major <= majorNegative || major == majorSimple; tag == tagTimeText && major != majorText || tag == tagTimeSeconds && !number {
		return false // and no tag in a tag, which would be read twice, and the next within it four times
	}
	loose := c.loose
	c.at++
	ok := c.item(0) == nil
	if ok && tag == tagTimeSeconds {
		seconds, err := strconv.ParseFloat(string(c.out[out:]), 64)
		if ok = err == nil && math.Abs(seconds) < farTime; ok {
			c.out = strconv.AppendInt(c.out[:out], int64(math.Round(seconds*1000)), 10)
		}
	}
	if !ok {
		c.at, c.out, c.loose = at, c.out[:out], loose
	}
	return ok
}

// simple rewrites what is of the last major type (section 3.3).
func (c *transcoder) simple(at int, info byte, argument uint64) *Error {
	switch {
	case info == 20:
		c.out = append(c.out, "false"...)
	case info == 21:
		c.out = append(c.out, "true"...)
	case info == 22, info == 23: // null, undefined
		c.out = append(c.out, "null"...)
	case info == 24 && argument < 32:
		return badCBOR(at, "a simple value below 32 in two bytes")
	case info <= 24 && c.plain:
		c.out = append(c.out, "null"...)
	case info <= 24:
		c.loose = true
		c.out = append(c.out, "simple("...)
		c.out = strconv.AppendUint(c.out, argument, 10)
		c.out = append(c.out, ')')
	case info == 25:
		c.float(half(uint16(argument)), 64)
	case info == 26:
		f := float64(math.Float32frombits(uint32(argument)))
		if f == math.Trunc(f) {
			c.float(f, 64)
		} else {
			c.float(f, 32)
		}
	case info == 27:
		c.float(math.Float64frombits(argument), 64)
	default:
		return badCBOR(at, "a break that ends nothing")
	}
	return nil
}

// half returns the value of a float of 16 bits (IEEE 754 binary16).
func half(bits uint16) float64 {
	exponent, mantissa := int(bits>>10&31), float64(bits&1023)
	f := math.Ldexp(mantissa+1024, exponent-25)
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		f = math.Inf(1)
		if mantissa != 0 {
			return math.NaN()
		}
	}
	if bits>>15 == 1 {
		return -f
	}
	return f
}

// float writes a number with as many digits as one of so many bits needs.
func (c *transcoder) float(f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		if c.plain {
			c.out = append(c.out, "null"...)
			return
		}
		c.loose = true
		switch {
		case math.IsNaN(f):
			c.out = append(c.out, "NaN"...)
		case f > 0:
			c.out = append(c.out, "Infinity"...)
		default:
			c.out = append(c.out, "-Infinity"...)
		}
		return
	}
	c.out = appendNumber(c.out, f, bits)
}

// appendNumber appends a finite number, with an exponent only where it would be long without one.
func appendNumber(dst []byte, f float64, bits int) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}
