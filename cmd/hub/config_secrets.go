package main

import (
	"fmt"
	"os"
	"strings"
)

// influxTokenVariable beats the file, so that a secret needs to stand in no file at all.
const (
	influxTokenVariable   = "HUB_INFLUX_TOKEN"
	webhookSecretVariable = "HUB_PRESENCE_WEBHOOK_SECRET"
)

// resolveSecrets fills tokens and passwords from where they are kept: the environment before a file of their own before
// the configuration itself.
func (c *Config) resolveSecrets(getenv func(string) string, faults *faultList) {
	influx := &c.Store.InfluxDB
	influx.Token = resolveSecret(faults, "store.influxdb.token", influx.Token, influx.TokenFile, getenv(influxTokenVariable))
	hook := &c.Devices.Presence.Webhook
	hook.Secret = resolveSecret(faults, "devices.presence.webhook.secret", hook.Secret, hook.SecretFile, getenv(webhookSecretVariable))
	for i := range c.Bridge.Brokers {
		broker := &c.Bridge.Brokers[i]
		key := fmt.Sprintf("bridge.brokers[%d].password", i)
		fromEnvironment := getenv(brokerPasswordVariable(broker.Name))
		broker.Password = resolveSecret(faults, key, broker.Password, broker.PasswordFile, fromEnvironment)
		if fromEnvironment != "" {
			broker.PasswordFile = "" // which would be read again for each connection
		}
	}
}

// brokerPasswordVariable is HUB_BRIDGE_PLANT_1_PASSWORD for the broker plant-1.
func brokerPasswordVariable(name string) string {
	return "HUB_BRIDGE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_PASSWORD"
}

func resolveSecret(faults *faultList, key string, inline Secret, file, fromEnvironment string) Secret {
	if inline != "" && file != "" {
		faults.add(key+"_file", "is set beside %s: only one of them can count", key)
		return inline
	}
	if fromEnvironment != "" {
		return Secret(fromEnvironment)
	}
	if file == "" {
		return inline
	}
	data, err := os.ReadFile(file)
	if err != nil {
		faults.add(key+"_file", "%v", err)
		return ""
	}
	secret := strings.TrimRight(string(data), "\r\n") // editors end the last line
	if secret == "" {
		faults.add(key+"_file", "%s is empty", file)
	}
	return Secret(secret)
}
