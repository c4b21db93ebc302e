package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// FieldType is the type that a field of a measurement has in the store, for all devices.
type FieldType struct {
	Measurement string        `json:"measurement"`
	Field       string        `json:"field"` // as devices name it
	Type        string        `json:"type"`  // float, integer, string or boolean
	StoredAs    string        `json:"stored_as"`
	ChangedBy   string        `json:"changed_by,omitempty"`
	ChangedAt   time.Time     `json:"changed_at,omitzero"`
	Earlier     []EarlierType `json:"earlier,omitempty"` // the oldest first
}

// EarlierType is a type that a field had.
type EarlierType struct {
	Type     string `json:"type"`
	StoredAs string `json:"stored_as"`
}

// FieldTypeSet is what a change of a type came to; State is applied, queued or unchanged.
type FieldTypeSet struct {
	FieldType
	State   string `json:"state"`
	Message string `json:"message"`
}

const typesPath = "/api/v1/types"

// Types lists the fields of a measurement, of all if it is empty, page after page. After an error the sequence ends.
func (c *Client) Types(ctx context.Context, measurement string) iter.Seq2[FieldType, error] {
	query := url.Values{}
	setText(query, "measurement", measurement)
	return pages(query, func(q url.Values) ([]FieldType, string, error) {
		var page struct {
			Items []FieldType `json:"items"`
			Next  string      `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: typesPath, query: q}, &page)
		return page.Items, page.Next, err
	})
}

// typeWait is how long the hub may wait until a change applies.
const typeWait = 10 * time.Second

// SetType changes the type of a field. Its values are stored by the name storedAs; empty: the hub chooses.
func (c *Client) SetType(ctx context.Context, measurement, field, kind, storedAs string) (FieldTypeSet, error) {
	body := struct {
		Type     string `json:"type"`
		StoredAs string `json:"stored_as,omitempty"`
	}{kind, storedAs}
	var set FieldTypeSet
	err := c.do(ctx, call{method: http.MethodPut, path: typesPath + "/" + url.PathEscape(measurement) + "/" + url.PathEscape(field), body: body, wait: typeWait}, &set)
	return set, err
}
