package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/auth"
)

// Issuer gives devices certificates; devices.Issuer is one.
type Issuer interface {
	Issue(ctx context.Context, device string, request []byte) (auth.IssuedCertificate, error)
}

// NewCertificate is a certificate that a device was given.
type NewCertificate struct {
	Device      string    `json:"device"`
	ID          string    `json:"id" doc:"Names it among the device's credentials"`
	Certificate string    `json:"certificate" doc:"PEM"`
	Serial      string    `json:"serial" doc:"Hexadecimal"`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate, hexadecimal"`
	Key         string    `json:"key" doc:"The kind of its key" example:"ECDSA P-256"`
	Expires     time.Time `json:"expires"`
}

type newCertificateInput struct {
	DevicePath
	Body struct {
		CSR string `json:"csr" minLength:"1" maxLength:"16384" doc:"A certificate signing request (PKCS #10) in PEM, for the device's own key: ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 4096 bits. The names in it do not count"`
	}
}

type newCertificateOutput struct{ Body NewCertificate }

func (s *Server) registerCertificates() {
	register(s, admin, huma.Operation{
		OperationID: "new-device-certificate", Method: http.MethodPost, Path: "/api/v1/devices/{id}/certificate", Tags: []string{"devices"},
		DefaultStatus: http.StatusCreated, Summary: "Give a device a certificate of the hub's authority",
		Description: "For the key of a certificate signing request, so that the key stays where it is. A device has at most two of them: the one of its connection, else the newest, stays beside the new one; the others are void at once.",
	}, s.newCertificate)
}

func (s *Server) newCertificate(ctx context.Context, in *newCertificateInput) (*newCertificateOutput, error) {
	made, err := s.deps.Issuer.Issue(ctx, in.ID, []byte(in.Body.CSR))
	if wrong, ok := errors.AsType[*auth.SigningRequestError](err); ok {
		return nil, newProblem(http.StatusUnprocessableEntity, "bad_csr", "csr: %s", wrong.Message).at("body.csr", nil)
	}
	if err != nil {
		return nil, err
	}
	fingerprint, err := made.Fingerprint.MarshalText()
	if err != nil {
		return nil, err
	}
	s.logChange(ctx, "certificate issued", in.ID)
	note(ctx, "certificate", made.ID())
	note(ctx, "expires", made.NotAfter)
	return &newCertificateOutput{NewCertificate{
		Device: in.ID, ID: made.ID(), Certificate: string(made.PEM), Serial: made.Serial, Fingerprint: string(fingerprint), Key: made.Key, Expires: made.NotAfter,
	}}, nil
}
