package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"telemetryhub/auth/acts"
	"telemetryhub/backbone"
	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
)

// AdmitConfig lets devices in by themselves that a bridge sees and that are not registered.
type AdmitConfig struct {
	Bridge string   `yaml:"bridge"` // name of the broker; empty: any
	Device string   `yaml:"device"` // pattern of ids: * is any text, ? one character
	Type   string   `yaml:"type"`   // that they get; empty: what was seen of it
	Tags   []string `yaml:"tags"`
	Max    int      `yaml:"max"` // of the rule's devices in the registry
}

// Values of BrokerConfig.Admit.
const (
	admitAsk    = "ask"
	admitAlways = "always"
)

// defaults fills a rule of the list before its keys are read.
func (a *AdmitConfig) defaults() { a.Max = discovery.DefaultMax }

func (a AdmitConfig) rule() discovery.Rule {
	return discovery.Rule{Bridge: a.Bridge, Device: a.Device, Type: a.Type, Tags: a.Tags, Max: a.Max}
}

// rules returns the rules in their order; that a broker's devices are all admitted comes after them.
func (b BridgeConfig) rules() (rules []discovery.Rule) {
	for _, a := range b.Admit {
		rules = append(rules, a.rule())
	}
	for _, broker := range b.Brokers {
		if broker.Admit == admitAlways {
			rules = append(rules, discovery.Rule{Bridge: broker.Name, Device: "*", Max: broker.AdmitMax})
		}
	}
	return rules
}

func (b BridgeConfig) validateAdmit(faults *faultList) {
	for i, a := range b.Admit {
		at := fmt.Sprintf("bridge.admit[%d]", i)
		if a.Bridge != "" && !slices.ContainsFunc(b.Brokers, func(broker BrokerConfig) bool { return broker.Name == a.Bridge }) {
			faults.add(at+".bridge", "%q is not the name of one of bridge.brokers", a.Bridge)
		}
		if a.Device == "" {
			faults.add(at+".device", `is needed: a pattern of ids such as tasmota-*, or "*" for all`)
		}
		within(faults, at+".max", a.Max, 1, discovery.MostMax)
		if err := a.rule().Check(); err != nil && a.Max > 0 {
			for fault := range strings.SplitSeq(err.Error(), "\n") {
				key, message, _ := strings.Cut(fault, ": ")
				faults.add(at+"."+key, "%s", message)
			}
		}
		same := func(other AdmitConfig) bool { return other.rule().Name() == a.rule().Name() }
		if earlier := slices.IndexFunc(b.Admit, same); earlier < i && a.Device != "" {
			faults.add(at, "is for the same devices as bridge.admit[%d], which comes first", earlier)
		}
	}
	for i, broker := range b.Brokers {
		at := fmt.Sprintf("bridge.brokers[%d]", i)
		if broker.Name == bridge.EmbeddedName {
			faults.add(at+".name", "%s is what the hub's own broker is called", broker.Name)
		}
		wantOneOf(faults, at+".admit", broker.Admit, admitAsk, admitAlways)
		within(faults, at+".admit_max", broker.AdmitMax, 1, discovery.MostMax)
		whole := discovery.Rule{Bridge: broker.Name, Device: "*"}.Name()
		same := func(a AdmitConfig) bool { return a.rule().Name() == whole }
		if j := slices.IndexFunc(b.Admit, same); j >= 0 && broker.Admit == admitAlways {
			faults.add(at+".admit", "always is said by bridge.admit[%d] already", j)
		}
	}
}

// openDiscovery comes after what is to be cleared of an earlier device, and before any bridge.
func (h *hub) openDiscovery(ctx context.Context) error {
	kv, err := h.bus.Bucket(ctx, backbone.Discovery)
	if err != nil {
		return err
	}
	h.discovery, err = discovery.Open(ctx, kv, h.registry, discovery.Config{
		Rules: h.cfg.Bridge.rules(), Clear: h.clearDevice, Ready: h.acts.Err,
		Record:  func(d devices.Device) { h.acts.Note(actOfAdmission(d)) },
		Metrics: h.reg, Log: h.log,
	})
	if err != nil {
		return err
	}
	h.stop.add("discovered devices", h.discovery.Close)
	return nil
}

// actOfAdmission is the admission by a rule as the audit log tells of it. Its actor is no operator. The registry's record,
// which is on disk first, says the same.
func actOfAdmission(d devices.Device) acts.Act {
	facts := map[string]any{"bridge": d.Admitted.Bridge}
	if d.Type != "" {
		facts["type"] = d.Type
	}
	if len(d.Tags) > 0 {
		facts["tags"] = d.Tags
	}
	return acts.Act{Time: time.Now(), Role: "rule", Act: "device.admit", Device: d.ID, Target: d.Admitted.Rule, Facts: facts, Outcome: acts.Accepted}
}
