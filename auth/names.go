package auth

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// maxHostAddresses bounds the certificate on a machine with hundreds of interfaces (containers); each device receives all
// of them in each full handshake.
const maxHostAddresses = 64

// serverNames is what a certificate is for. Both lists are sorted and hold nothing twice.
type serverNames struct {
	dns       []string
	addresses []netip.Addr
}

// CheckServerName reports a text that cannot be a name in a certificate: neither an IP address nor a DNS name, which may
// begin with "*.".
func CheckServerName(name string) error {
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	if !validDNSName(strings.TrimPrefix(name, "*.")) {
		return fmt.Errorf("%q is neither a DNS name nor an IP address", name)
	}
	return nil
}

// validDNSName accepts the labels of RFC 1123, and the underscore that many host names have.
func validDNSName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			digit := c >= '0' && c <= '9'
			if !letter && !digit && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// hostNames gathers the names under which devices may reach this machine: loopback, the host's name and addresses, and
// those configured, which have been checked.
func hostNames(configured []string, log *slog.Logger) serverNames {
	names := []string{"localhost", "127.0.0.1", "::1"}
	host, err := os.Hostname()
	switch {
	case err != nil:
		log.Warn("certificate goes without the host's name", "error", err)
	case !validDNSName(host):
		log.Warn("certificate goes without the host's name: not a DNS name", "host", host)
	default:
		names = append(names, host)
	}
	names = append(names, interfaceAddresses(log)...)
	return sortNames(append(names, configured...))
}

// interfaceAddresses lists the addresses of the machine that others can reach it by.
func interfaceAddresses(log *slog.Logger) []string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		log.Warn("certificate goes without the host's addresses", "error", err)
		return nil
	}
	var list []string
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		// A link-local address needs a zone, which no certificate can hold.
		if !ok || network.IP.IsLoopback() || network.IP.IsLinkLocalUnicast() || len(list) == maxHostAddresses {
			continue
		}
		list = append(list, network.IP.String())
	}
	return list
}

// sortNames parts names from addresses and brings them into the order in which they can be compared.
func sortNames(names []string) serverNames {
	var sorted serverNames
	for _, name := range names {
		if address, err := netip.ParseAddr(name); err == nil {
			sorted.addresses = append(sorted.addresses, address.Unmap().WithZone(""))
			continue
		}
		sorted.dns = append(sorted.dns, strings.ToLower(name))
	}
	slices.Sort(sorted.dns)
	slices.SortFunc(sorted.addresses, netip.Addr.Compare)
	sorted.dns = slices.Compact(sorted.dns)
	sorted.addresses = slices.Compact(sorted.addresses)
	return sorted
}

// covers reports whether a certificate made for n still serves for want. The DNS names must be the same; addresses that
// have gone may stay until the next renewal, because a machine with a changing address would otherwise reissue all day.
func (n serverNames) covers(want serverNames) bool {
	if !slices.Equal(n.dns, want.dns) {
		return false
	}
	for _, address := range want.addresses {
		if !slices.Contains(n.addresses, address) {
			return false
		}
	}
	return true
}
