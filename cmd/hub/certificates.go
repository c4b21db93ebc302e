package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/api"
	"telemetryhub/auth"
	"telemetryhub/backbone"
	"telemetryhub/devices"
)

// CertificatesConfig says which client certificates are those of devices.
type CertificatesConfig struct {
	Lifetime time.Duration `yaml:"lifetime"`  // of those that the hub issues
	CAFiles  []string      `yaml:"ca_files"`  // PEM: the operator's own authorities
	CRLFiles []string      `yaml:"crl_files"` // PEM or DER: what they have revoked
}

func (c *Config) validateCertificates(faults *faultList) {
	own := c.Devices.Certificates
	within(faults, "devices.certificates.lifetime", own.Lifetime, time.Hour, 20*365*24*time.Hour)
	for i, file := range own.CAFiles {
		wantFile(faults, fmt.Sprintf("devices.certificates.ca_files[%d]", i), file)
	}
	for i, file := range own.CRLFiles {
		wantFile(faults, fmt.Sprintf("devices.certificates.crl_files[%d]", i), file)
	}
	if len(own.CRLFiles) > 0 && len(own.CAFiles) == 0 {
		faults.add("devices.certificates.crl_files", "is of use only with ca_files: what the hub itself has issued is revoked by hubctl")
	}
}

// openCertificates opens all that TLS rests on: the server's certificate, the devices' authorities, the keys of tickets.
func (h *hub) openCertificates(ctx context.Context) (err error) {
	if h.certs, err = auth.OpenCertificates(h.path("tls"), h.cfg.TLS, h.log); err != nil {
		return err
	}
	c := h.cfg.Devices.Certificates
	if h.authority, err = auth.OpenDeviceAuthority(h.path("tls"), c.Lifetime); err != nil {
		return err
	}
	if h.trust, err = auth.OpenDeviceTrust(auth.DeviceTrustConfig{CAFiles: c.CAFiles, CRLFiles: c.CRLFiles, Grace: h.cfg.Devices.Tokens.Grace}, h.authority, h.log); err != nil {
		return err
	}
	kv, err := h.bus.Bucket(ctx, backbone.Tickets)
	if err != nil {
		return err
	}
	if h.tickets, err = auth.OpenTicketKeys(ctx, kv, h.log); err != nil {
		return err
	}
	h.keepCertificates() //nolint:contextcheck // for the life of the hub, not of its opening
	h.reg.MustRegister(&certificateMetrics{h.certs, h.trust})
	return nil
}

// keepCertificates renews what is due.
func (h *hub) keepCertificates() {
	h.background("certificates", h.certs.Run)
	h.background("ticket keys", h.tickets.Run)
}

// followTrust ends the sessions of devices whose certificates are good no longer, as soon as the files say so.
func (h *hub) followTrust(guard *devices.Guard) {
	h.background("authorities of devices", func(ctx context.Context) {
		h.trust.Run(ctx, func() { guard.CheckAll(ctx) })
	})
}

// serverTLS is the configuration of one of the TLS ports, which speaks these protocols (ALPN).
//
// Clients are asked for certificates as soon as there is one that would count: a fleet of tokens alone has nothing to
// say to that, and need not send the answer.
func (h *hub) serverTLS(protocols ...string) *tls.Config {
	c := h.certs.ServerTLS()
	c.NextProtos = protocols
	h.tickets.Use(c)
	h.trust.Ask(c, func() bool { return h.trust.HasOperators() || h.registry.HasCertificates() })
	return c
}

// certificatesPart says what is wrong with certificates. It does not make the hub unready: the earlier ones serve on.
func (h *hub) certificatesPart() api.Part {
	part := api.Part{Name: "certificates", OK: true}
	for _, err := range []error{h.certs.Fault(), h.trust.Fault()} {
		switch {
		case err == nil:
		case part.Message == "":
			part.Message = err.Error()
		default:
			part.Message += "; " + err.Error()
		}
	}
	return part
}

// certificateMetrics are those of TLS.
type certificateMetrics struct {
	certs *auth.Certificates
	trust *auth.DeviceTrust
}

// Describe implements prometheus.Collector.
func (m *certificateMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *certificateMetrics) Collect(c chan<- prometheus.Metric) {
	server, trust := m.certs.Status(), m.trust.Status()
	one := func(kind prometheus.ValueType, name, help string, value float64) {
		c <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), kind, value)
	}
	one(prometheus.GaugeValue, "hub_tls_certificate_expires_seconds", "Until the certificate of the TLS ports expires; negative: since.", time.Until(server.Expires).Seconds())
	one(prometheus.GaugeValue, "hub_tls_revoked_certificates", "Certificates of devices on the lists of crl_files.", float64(trust.Revoked))
	one(prometheus.CounterValue, "hub_tls_client_certificates_total", "Handshakes in which the client showed a certificate, good or not.", float64(server.Certificates))
	handshakes := prometheus.NewDesc("hub_tls_handshakes_total", "TLS handshakes of both ports: full, or resumed by a session ticket.", []string{"kind"}, nil)
	c <- prometheus.MustNewConstMetric(handshakes, prometheus.CounterValue, float64(server.Full), "full")
	c <- prometheus.MustNewConstMetric(handshakes, prometheus.CounterValue, float64(server.Resumed), "resumed")
	failures := prometheus.NewDesc("hub_tls_reload_failures_total", "Times that changed files were not taken: of the server's certificate, or of the devices' authorities.", []string{"files"}, nil)
	c <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(server.Failures), "server")
	c <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(trust.Failures), "devices")
	due := prometheus.NewDesc("hub_tls_crl_due_seconds", "Until a list of crl_files should be replaced by a newer one; negative: since.", []string{"file"}, nil)
	for file, at := range trust.Lists {
		if !at.IsZero() {
			c <- prometheus.MustNewConstMetric(due, prometheus.GaugeValue, time.Until(at).Seconds(), file)
		}
	}
}
