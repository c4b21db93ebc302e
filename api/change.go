package api

import (
	"context"
	"maps"
	"slices"
	"time"

	"telemetryhub/devices"
)

type createDeviceInput struct {
	Body struct {
		ID         string            `json:"id" minLength:"1" maxLength:"64" doc:"1 to 64 of A-Z a-z 0-9 . _ : -"`
		Type       string            `json:"type,omitempty" maxLength:"128"`
		Tags       []string          `json:"tags,omitempty" nullable:"false" maxItems:"64"`
		Attributes map[string]string `json:"attributes,omitempty"`
	}
}

type createDeviceOutput struct {
	Location string `header:"Location"`
	Body     struct {
		Token string `json:"token" doc:"Shown this once; the hub keeps only its hash"`
		Device
	}
}

func (s *Server) createDevice(ctx context.Context, in *createDeviceInput) (*createDeviceOutput, error) {
	noteDevice(ctx, in.Body.ID)
	if in.Body.Type != "" {
		note(ctx, "type", in.Body.Type)
	}
	if len(in.Body.Tags) > 0 {
		note(ctx, "tags", in.Body.Tags)
	}
	if err := checkTags(ctx, in.Body.Tags); err != nil {
		return nil, err
	}
	d, token, err := s.deps.Registry.Create(ctx, devices.Device{
		ID: in.Body.ID, Type: in.Body.Type, Tags: in.Body.Tags, Attributes: in.Body.Attributes, Enabled: true,
	})
	if err != nil {
		return nil, err
	}
	// Of a device that had this id, what outlived it because the hub ended in the middle of the deletion.
	s.forgetState(ctx, d.ID)
	s.abandonCommands(ctx, d.ID, "deleted")
	s.logChange(ctx, "created", d.ID)
	out := &createDeviceOutput{Location: "/api/v1/devices/" + d.ID}
	out.Body.Token, out.Body.Device = token, s.whole(d)
	return out, nil
}

type changeDeviceInput struct {
	DevicePath
	Body struct {
		Type       *string            `json:"type,omitempty" maxLength:"128"`
		Tags       *[]string          `json:"tags,omitempty" nullable:"false" maxItems:"64"`
		Attributes map[string]*string `json:"attributes,omitempty" doc:"Merged into those there are; null removes one"`
		Enabled    *bool              `json:"enabled,omitempty"`
		Limits     map[string]*int64  `json:"limits,omitempty" doc:"The device's own, merged into those there are; null gives one back to its type. By name: messages and bytes (a second; 0: no bound), burst_ms, max_frame (bytes), fields, connects (a minute)"`
	}
}

func (s *Server) changeDevice(ctx context.Context, in *changeDeviceInput) (*deviceOutput, error) {
	change := in.Body
	note(ctx, "change", change)
	if change.Enabled != nil && *change.Enabled {
		if d, ok := s.deps.Registry.Get(in.ID); ok && !d.Enabled { // what outlived the disabling, likewise
			s.abandonCommands(ctx, in.ID, "disabled")
		}
	}
	d, err := s.deps.Registry.Update(ctx, in.ID, func(d *devices.Device) error {
		if change.Type != nil {
			d.Type = *change.Type
		}
		if change.Tags != nil {
			d.Tags = slices.Clone(*change.Tags)
		}
		if err := checkTags(ctx, d.Tags); err != nil {
			return err
		}
		if change.Enabled != nil {
			d.Enabled = *change.Enabled
		}
		if len(change.Attributes) > 0 {
			merged := maps.Clone(d.Attributes) // the registry's own map is read by others
			if merged == nil {
				merged = map[string]string{}
			}
			for name, value := range change.Attributes {
				if value == nil {
					delete(merged, name)
				} else {
					merged[name] = *value
				}
			}
			d.Attributes = merged
		}
		if change.Type != nil || len(change.Limits) > 0 {
			return s.setLimits(d, change.Limits)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !d.Enabled {
		s.abandonCommands(ctx, d.ID, "disabled") // after the change, which has ended the connection: none can be sent now
	}
	s.logChange(ctx, "edited", d.ID)
	return &deviceOutput{Body: s.whole(d)}, nil
}

type deleteDeviceOutput struct {
	Body struct {
		ID   string `json:"id"`
		Data string `json:"data" doc:"What becomes of its readings"`
	}
}

func (s *Server) deleteDevice(ctx context.Context, in *DevicePath) (*deleteDeviceOutput, error) {
	if err := s.deps.Registry.Delete(ctx, in.ID); err != nil {
		return nil, err
	}
	s.abandonCommands(ctx, in.ID, "deleted") // likewise
	s.deps.Sessions.Forget(in.ID)
	s.deps.Throttle.Forget(in.ID)
	s.deps.Ingest.Forget(in.ID)
	s.forgetState(ctx, in.ID)
	s.logChange(ctx, "deleted", in.ID)
	out := &deleteDeviceOutput{}
	out.Body.ID = in.ID
	out.Body.Data = "Nothing was deleted from the store: the device's readings stay under this id until the store's retention, if one is configured, " +
		"removes them. A device made with the same id would show them again."
	return out, nil
}

// abandonTimeout bounds how long the deletion or disabling of a device waits until the end of its commands is durable. It is that of
// one write of the ledger.
const abandonTimeout = 10 * time.Second

func (s *Server) abandonCommands(ctx context.Context, device, how string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout) // it is done, whoever still listens
	defer cancel()
	if err := s.deps.Commands.Abandon(ctx, device, exchangeOf(ctx).operator.Name, "the device was "+how); err != nil {
		s.log.WarnContext(ctx, "the commands of a device that was taken out are not yet ended; the ledger goes on", "device", device, "how", how, "error", err)
	}
}

// forgetState removes what was desired and reported of a device. Where that fails, a device made with the same id begins
// without it all the same.
func (s *Server) forgetState(ctx context.Context, device string) {
	if err := s.deps.States.Forget(context.WithoutCancel(ctx), device); err != nil {
		s.log.WarnContext(ctx, "the state of a deleted device was not removed", "device", device, "error", err)
	}
}

// logChange leaves a trace of who changed what.
func (s *Server) logChange(ctx context.Context, change, id string) {
	s.log.InfoContext(ctx, "device changed", "change", change, "device", id, "operator", exchangeOf(ctx).operator.Name)
}
