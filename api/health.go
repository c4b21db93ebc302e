package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

type healthOutput struct {
	Body struct {
		Status string `json:"status" enum:"ok"`
	}
}

type readyOutput struct {
	Status int
	Body   struct {
		Ready bool   `json:"ready"`
		Parts []Part `json:"parts" nullable:"false"`
	}
}

type fileOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (s *Server) registerHealth(metrics http.Handler) {
	tags := []string{"health"}
	register(s, open, huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: tags, Summary: "Is the process alive",
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		out := &healthOutput{}
		out.Body.Status = "ok"
		return out, nil
	})
	register(s, open, huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: tags, Summary: "Can it serve, and if not, which part cannot",
		Description: "200 when every part can work, else 503 with the same body.",
	}, s.ready)
	register(s, open, huma.Operation{
		OperationID: "ca", Method: http.MethodGet, Path: "/ca.pem", Tags: tags, Summary: "Certificate of the hub's own CA",
		Responses: text("application/x-pem-file", "PEM"),
	}, func(context.Context, *struct{}) (*fileOutput, error) {
		if len(s.deps.CAPEM) == 0 {
			return nil, newProblem(http.StatusNotFound, "no_local_ca", "the hub has a certificate of its own, not from a CA of its own")
		}
		return &fileOutput{ContentType: "application/x-pem-file", Disposition: `attachment; filename="ca.pem"`, Body: s.deps.CAPEM}, nil
	})
	register(s, viewer, huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: tags, Summary: "Metrics for Prometheus",
		Responses: text("text/plain", "Prometheus text format"),
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			metrics.ServeHTTP(w, r)
		}}, nil
	})
}

func text(mediaType, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {
		Description: description,
		Content:     map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

func (s *Server) ready(ctx context.Context, _ *struct{}) (*readyOutput, error) {
	out := &readyOutput{Status: http.StatusOK}
	out.Body.Ready, out.Body.Parts = true, []Part{}
	for _, part := range s.deps.Readiness.Parts(ctx) {
		out.Body.Parts = append(out.Body.Parts, part)
		out.Body.Ready = out.Body.Ready && part.OK
	}
	if !out.Body.Ready {
		out.Status = http.StatusServiceUnavailable
	}
	return out, nil
}
