// Package presets holds the maps for what people have: Tasmota, Zigbee2MQTT, Shelly and ESPHome, each a YAML file in the
// language of bridge/maps, to be read, and to be copied where a device does it otherwise. docs/presets.md says what to set on the devices
// and what comes of them.
//
// It knows neither brokers nor devices. A file has no Go code of its own, but for Tasmota's FullTopic, whose words are made into the
// beginnings of topics.
//
// testdata holds conversations with devices as the projects' own documentation shows them, and what becomes of each message.
//
// Files in reading order: presets.go (names, options, decoding), tasmota.yaml, zigbee2mqtt.yaml, shelly.yaml, esphome.yaml.
package presets
