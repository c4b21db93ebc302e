package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"telemetryhub/api/client"
)

type devicesCert struct {
	Device string `arg:"" help:"Its id."`
	CSR    string `xor:"what" required:"" placeholder:"FILE" help:"A certificate signing request, PEM; - reads it from the standard input. The certificate is printed."`
	NewKey string `xor:"what" required:"" placeholder:"PREFIX" help:"Make a key here, and write it to PREFIX.key and its certificate to PREFIX.pem. The key goes nowhere else."`
}

// Run gives a device a certificate.
func (c *devicesCert) Run(a *app) error {
	if c.NewKey != "" {
		return c.newKey(a)
	}
	csr, err := c.read()
	if err != nil {
		return err
	}
	made, err := a.hub.NewCertificate(a.ctx, c.Device, string(csr))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(made)
	}
	say(a.stderr, certified(made))
	return a.printf("%s", made.Certificate)
}

// read reads the request. The hub refuses what is too large for one.
func (c *devicesCert) read() ([]byte, error) {
	const most = 64 << 10 // bytes
	if c.CSR == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, most))
	}
	file, err := os.Open(c.CSR)
	if err != nil {
		return nil, usageError("%v", err)
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most))
}

// newKey writes the key before anything is asked of the hub: there is no certificate whose key is lost.
func (c *devicesCert) newKey(a *app) error {
	key, csr, err := client.NewDeviceKey(c.Device)
	if err != nil {
		return err
	}
	keyFile, certFile := c.NewKey+".key", c.NewKey+".pem"
	if _, err := os.Stat(certFile); err == nil {
		return usageError("%s exists; choose another prefix", certFile)
	}
	if err := writeNew(keyFile, key); err != nil {
		return usageError("%v", err)
	}
	made, err := a.hub.NewCertificate(a.ctx, c.Device, string(csr))
	if err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	if err := writeNew(certFile, []byte(made.Certificate)); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			client.Certificate
			KeyFile  string `json:"key_file"`
			CertFile string `json:"certificate_file"`
		}{made, keyFile, certFile})
	}
	say(a.stderr, certified(made))
	return a.printf("%s\n%s\n", keyFile, certFile)
}

func certified(c client.Certificate) string {
	return fmt.Sprintf("hubctl: certificate %s of %s, %s, expires %s", clean(c.ID), clean(c.Device), clean(c.Key), moment(c.Expires))
}

// writeNew makes a file that only its owner reads.
func writeNew(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}
