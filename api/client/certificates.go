package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/http"
	"time"
)

// Certificate is one that a device was given.
type Certificate struct {
	Device      string    `json:"device"`
	ID          string    `json:"id"`          // among the device's credentials
	Certificate string    `json:"certificate"` // PEM
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hexadecimal
	Key         string    `json:"key"`         // its kind
	Expires     time.Time `json:"expires"`
}

// NewCertificate has the hub sign a certificate signing request (PKCS #10, PEM) for a device.
func (c *Client) NewCertificate(ctx context.Context, id, csr string) (Certificate, error) {
	var made Certificate
	err := c.do(ctx, call{method: http.MethodPost, path: devicePath(id) + "/certificate", body: map[string]string{"csr": csr}}, &made)
	return made, err
}

// NewDeviceKey makes a P-256 key and a request to sign it, both in PEM. The key is for the device alone; the hub never sees
// it.
func NewDeviceKey(device string) (key, csr []byte, err error) {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(made)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: device}}, made)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), nil
}
