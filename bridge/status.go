package bridge

import (
	"fmt"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// What the status topic says of the hub, retained.
const (
	statusOnline  = "online"
	statusOffline = "offline" // by the hub when it stops, by the broker as last will when it is gone
)

// setWill lets the broker say when the hub is gone (MQTT 3.1.1 section 3.1.2.5).
func (e *External) setWill(o *paho.ClientOptions) {
	if e.cfg.StatusTopic != "" {
		o.SetWill(e.cfg.StatusTopic, statusOffline, 1, true)
	}
}

// sayStatus publishes what the hub is, and waits until the broker has it.
func (e *External) sayStatus(l *line, client paho.Client, status string) error {
	if e.cfg.StatusTopic == "" {
		return nil
	}
	e.echoes.note(e.cfg.StatusTopic, []byte(status))
	if err := l.wait(client.Publish(e.cfg.StatusTopic, 1, true, status)); err != nil {
		return fmt.Errorf("say %s on %s: %w", status, e.cfg.StatusTopic, err)
	}
	return nil
}
