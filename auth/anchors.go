package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"time"
)

// anchors is what DeviceTrust has read. It is not changed once it was made.
type anchors struct {
	roots         *x509.CertPool
	intermediates *x509.CertPool
	asked         *x509.CertPool // all of them: the names that clients are told
	authorities   int
	lists         []*revokedList
	keys          map[issuerKey]bool // of the authorities
	orphans       []error            // lists of authorities that are not there
	byIssuer      map[issuerKey][]*revokedList
}

const pemCRL = "X509 CRL"

// issuerKey is an authority by its name and key, whatever certificate says so: SHA-256 of both.
type issuerKey [sha256.Size]byte

func keyOfIssuer(cert *x509.Certificate) issuerKey {
	return sha256.Sum256(slices.Concat(cert.RawSubject, cert.RawSubjectPublicKeyInfo))
}

// errOrphan says that a list is of no authority that is there.
var errOrphan = errors.New("is signed by none of the authorities in ca_files")

// readAnchors reads all files, or says which cannot be used. Lists of other authorities are left out and named.
func readAnchors(cfg DeviceTrustConfig, own *x509.Certificate) (*anchors, error) {
	authorities := []*x509.Certificate{own}
	for _, file := range cfg.CAFiles {
		read, err := readAuthorities(file)
		if err != nil {
			return nil, fmt.Errorf("authorities of devices: %w", err)
		}
		authorities = append(authorities, read...)
	}
	a := &anchors{
		roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), asked: x509.NewCertPool(),
		authorities: len(authorities), keys: map[issuerKey]bool{}, byIssuer: map[issuerKey][]*revokedList{},
	}
	for _, cert := range authorities {
		a.asked.AddCert(cert)
		a.keys[keyOfIssuer(cert)] = true
		// One whose signer is there too is no end of a chain: else nobody would look whether the signer has revoked it.
		if signedByAnother(cert, authorities) {
			a.intermediates.AddCert(cert)
		} else {
			a.roots.AddCert(cert)
		}
	}
	for _, file := range cfg.CRLFiles {
		lists, err := readRevoked(file, authorities)
		if errors.Is(err, errOrphan) {
			a.orphans = append(a.orphans, err)
		} else if err != nil {
			return nil, fmt.Errorf("revoked certificates of devices: %w", err)
		}
		a.lists = append(a.lists, lists...)
	}
	for _, list := range a.lists {
		a.byIssuer[list.issuer] = append(a.byIssuer[list.issuer], list)
	}
	return a, nil
}

func signedByAnother(cert *x509.Certificate, all []*x509.Certificate) bool {
	return slices.ContainsFunc(all, func(other *x509.Certificate) bool {
		return !bytes.Equal(other.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) &&
			bytes.Equal(other.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(other) == nil
	})
}

// readAuthorities reads a PEM bundle.
func readAuthorities(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var read []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("%s: holds a PEM block %q; only certificates belong here", file, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", file, len(read)+1, err)
		}
		if cert.BasicConstraintsValid && !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("%s: certificate %d (%s) is not that of an authority", file, len(read)+1, cert.Subject)
		}
		read = append(read, cert)
	}
	if len(read) == 0 {
		return nil, fmt.Errorf("%s: holds no PEM block %q", file, pemCertificate)
	}
	return read, nil
}

// follows says why a may not take the place of before: a list that an authority had is gone, though the authority is not. What
// it has revoked would be good again.
func (a *anchors) follows(before *anchors) error {
	for _, old := range before.lists {
		kept := slices.ContainsFunc(a.byIssuer[old.issuer], func(l *revokedList) bool { return l.file == old.file })
		if a.keys[old.issuer] && !kept {
			return fmt.Errorf("revoked certificates of devices: %s: no longer holds a list of the authority that it was of", old.file)
		}
	}
	return nil
}

// chains returns the ways from what a client has shown to an authority, as they are at a time.
func (a *anchors) chains(shown []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	intermediates := a.intermediates
	if len(shown) > 1 {
		intermediates = intermediates.Clone()
		for _, cert := range shown[1:] {
			intermediates.AddCert(cert)
		}
	}
	chains, err := shown[0].Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		return chains, nil
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.IncompatibleUsage {
		return nil, refuseCertificate(CertificateUsage, "the certificate is not for TLS clients: its extended key usage lacks clientAuth")
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return nil, refuseCertificate(CertificateUntrusted, "the certificate was issued by %q, which is no authority that this hub takes devices' certificates of", shown[0].Issuer)
	}
	return nil, refuseCertificate(CertificateUntrusted, "the certificate cannot be verified: %v", err)
}

// check reports that no chain is good now: an authority of it has expired, or something of it was revoked.
func (a *anchors) check(chains [][]*x509.Certificate, now time.Time) error {
	var refusal error
	for _, chain := range chains {
		if refusal = a.checkChain(chain, now); refusal == nil {
			return nil
		}
	}
	return refusal
}

func (a *anchors) checkChain(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		if now.After(issuer.NotAfter) { // a device's own time may be over by the grace, an authority's not
			return refuseCertificate(CertificateExpired, "the authority %q of the certificate has expired at %s", issuer.Subject, rfc3339(issuer.NotAfter))
		}
		for _, list := range a.byIssuer[keyOfIssuer(issuer)] {
			if !list.has(cert.SerialNumber) {
				continue
			}
			if i > 0 {
				return refuseCertificate(CertificateRevoked, "the authority %q of the certificate was revoked", cert.Subject)
			}
			return refuseCertificate(CertificateRevoked, "the certificate was revoked by its authority")
		}
	}
	return nil
}

func (a *anchors) revoked() (n int) {
	for _, list := range a.lists {
		n += len(list.serials)
	}
	return n
}

// revokedList is a certificate revocation list (RFC 5280 section 5).
type revokedList struct {
	file       string
	issuer     issuerKey
	nextUpdate time.Time // when a newer one should be there; zero: the list does not say
	serials    map[string]struct{}
}

func (l *revokedList) has(serial *big.Int) bool {
	_, ok := l.serials[string(serial.Bytes())]
	return ok
}

// stale reports that a newer list should be there. The list goes on counting: a device is not to be lost because
// somebody's timer has failed, and what was revoked stays revoked.
func (l *revokedList) stale(now time.Time) bool {
	return !l.nextUpdate.IsZero() && now.After(l.nextUpdate)
}

// readRevoked reads the lists of a file: PEM blocks, or one in DER.
func readRevoked(file string, authorities []*x509.Certificate) ([]*revokedList, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ders := [][]byte{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCRL {
			return nil, fmt.Errorf("%s: holds a PEM block %q, not %q", file, block.Type, pemCRL)
		}
		ders = append(ders, block.Bytes)
	}
	if len(ders) == 0 {
		ders = append(ders, data)
	}
	var lists []*revokedList
	var orphan error
	for _, der := range ders {
		list, err := parseRevoked(der, authorities)
		if errors.Is(err, errOrphan) {
			orphan = fmt.Errorf("%s: %w", file, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list.file = file
		lists = append(lists, list)
	}
	return lists, orphan
}

func parseRevoked(der []byte, authorities []*x509.Certificate) (*revokedList, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("is no list of revoked certificates in PEM or DER: %w", err)
	}
	signer := slices.IndexFunc(authorities, func(cert *x509.Certificate) bool {
		return bytes.Equal(cert.RawSubject, crl.RawIssuer) && crl.CheckSignatureFrom(cert) == nil
	})
	if signer < 0 {
		return nil, fmt.Errorf("%w; it says that its issuer is %q", errOrphan, crl.Issuer)
	}
	for _, extension := range crl.Extensions {
		if extension.Critical { // such as those of delta lists and lists of a part (section 5.2)
			return nil, fmt.Errorf("is not a whole list of all that %q has revoked: it has the critical extension %s", crl.Issuer, extension.Id)
		}
	}
	list := &revokedList{issuer: keyOfIssuer(authorities[signer]), nextUpdate: crl.NextUpdate, serials: make(map[string]struct{}, len(crl.RevokedCertificateEntries))}
	for _, entry := range crl.RevokedCertificateEntries {
		list.serials[string(entry.SerialNumber.Bytes())] = struct{}{}
	}
	return list, nil
}
