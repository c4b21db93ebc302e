package rollouts

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Amount is a number of devices, or a share of them in percent. As text: 25, 10%, 0.5%. The zero value is none.
type Amount struct {
	Count   int
	Percent float64
}

// ParseAmount reads an amount; an empty text is none.
func ParseAmount(text string) (Amount, error) {
	var a Amount
	err := a.UnmarshalText([]byte(text))
	return a, err
}

// IsZero reports whether it is none.
func (a Amount) IsZero() bool { return a == Amount{} }

// String is the amount as text.
func (a Amount) String() string {
	switch {
	case a.IsZero():
		return ""
	case a.Percent > 0:
		return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
	}
	return strconv.Itoa(a.Count)
}

// MarshalText is String.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAmount.
func (a *Amount) UnmarshalText(text []byte) error {
	*a = Amount{}
	if len(text) == 0 {
		return nil
	}
	if share, ok := strings.CutSuffix(string(text), "%"); ok {
		percent, err := strconv.ParseFloat(share, 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return fmt.Errorf("%q is not above 0%% and at most 100%%", text)
		}
		a.Percent = percent
		return nil
	}
	count, err := strconv.Atoi(string(text))
	if err != nil || count < 1 {
		return fmt.Errorf("%q is neither a number from 1 nor a percentage such as 10%%", text)
	}
	a.Count = count
	return nil
}

// of is the amount of a total, at least 1: a share is rounded up.
func (a Amount) of(total int) int {
	if a.Percent > 0 {
		return max(1, int(math.Ceil(a.Percent*float64(total)/100)))
	}
	return max(1, a.Count)
}
