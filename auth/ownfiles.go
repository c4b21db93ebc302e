package auth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// loadOwnFiles reads a certificate and key that the operator brings, and says plainly what is wrong with them.
func loadOwnFiles(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("tls certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls key: %w", err)
	}
	if err := checkKeyPEM(keyPEM); err != nil {
		return nil, fmt.Errorf("tls key %s: %w", keyFile, err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		// The library's words say which of the two is at fault, or that they do not match.
		return nil, fmt.Errorf("tls certificate %s with key %s: %s", certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("tls certificate %s: has expired on %s", certFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &pair, nil
}

// checkKeyPEM finds the one fault that the library calls by a misleading name.
func checkKeyPEM(data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		//nolint:staticcheck // deprecated because the encryption is weak; here it is only recognised.
		if block.Type == "ENCRYPTED PRIVATE KEY" || x509.IsEncryptedPEMBlock(block) {
			return errors.New("is protected by a passphrase, which the hub has nowhere to ask for: give it the bare key, mode 0600")
		}
	}
	return nil
}
