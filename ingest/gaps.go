package ingest

// Gap is a piece of a boot's numbers, both ends included, of which no reading has come: or, when Partly is set, some
// may have come and which is no longer known.
type Gap struct {
	Boot     string
	From, To uint64
	Partly   bool
}

// Gaps returns the gaps in a device's numbers, the boot used last first; there are at most maxBoots * (maxSpans + 1).
func (in *Ingest) Gaps(device string) []Gap {
	in.writer.mu.Lock()
	defer in.writer.mu.Unlock()
	a := in.writer.accounts[device]
	if a == nil {
		return nil
	}
	var gaps []Gap
	for i := len(a.Boots) - 1; i >= 0; i-- {
		gaps = a.Boots[i].appendGaps(gaps)
	}
	return gaps
}

func (n *numbers) appendGaps(gaps []Gap) []Gap {
	known := n.Floor
	if n.Forgotten > known {
		gaps = append(gaps, Gap{Boot: n.Boot, From: known + 1, To: n.Forgotten, Partly: true})
		known = n.Forgotten
	}
	for _, s := range n.Spans {
		if s[0] > known+1 {
			gaps = append(gaps, Gap{Boot: n.Boot, From: known + 1, To: s[0] - 1})
		}
		known = s[1]
	}
	return gaps
}
