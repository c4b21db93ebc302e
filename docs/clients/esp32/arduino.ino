// The device as an Arduino sketch for the ESP32: libraries "WebSockets" by Markus Sattler, and hub_device.h beside this
// file. The token is written once: prefs.begin("hub"); prefs.putString("token", "dev_...").
#include <Preferences.h>
#include <WebSocketsClient.h>
#include <WiFi.h>

#include "hub_device.h"

const char *SSID = "...", *PASSWORD = "...", *HOST = "hub.example", *PATH = "/connect/node-01";
const uint16_t PORT = 8443;
const char HUB_CA[] = R"(-----BEGIN CERTIFICATE-----
...
-----END CERTIFICATE-----)";

WebSocketsClient ws;
Preferences prefs;

class ArduinoBoard : public HubBoard {
 public:
  bool wanted = false;  // ws.loop() connects by itself, so it is called only while a connection is wanted

  void connect() override {
    wanted = true;
    ws.setExtraHeaders(("Authorization: Bearer " + prefs.getString("token")).c_str());
    ws.beginSslWithCA(HOST, PORT, PATH, HUB_CA, "hub.v1+json");
  }
  void disconnect() override {
    wanted = false;
    ws.disconnect();
  }
  bool send(const std::string &text) override { return ws.sendTXT(text.c_str(), text.size()); }
  bool storeToken(const char *token) override { return prefs.putString("token", token) > 0; }
  uint32_t random() override { return esp_random(); }
  cJSON *command(const char *method, const cJSON *params) override {
    if (strcmp(method, "ping") != 0) return NULL;
    cJSON *result = cJSON_CreateObject();
    cJSON_AddTrueToObject(result, "pong");
    return result;
  }
};

ArduinoBoard board;
HubDevice *device;

void event(WStype_t type, uint8_t *payload, size_t length) {
  switch (type) {
    case WStype_CONNECTED:
      return device->opened();
    case WStype_TEXT:
      return device->text((const char *)payload, length);
    case WStype_PING:
      return device->alive();
    case WStype_DISCONNECTED:  // the library hides the code: the notice before it said when to come back
      board.wanted = false;
      return device->closed(1006, "");
    default:
      return;
  }
}

void setup() {
  prefs.begin("hub");
  WiFi.begin(SSID, PASSWORD);
  while (WiFi.status() != WL_CONNECTED) delay(100);
  ws.onEvent(event);
  device = new HubDevice(board, "esp32-arduino", "1.0");
}

void loop() {
  static uint32_t measured = 0;
  if (millis() - measured >= 10000 || measured == 0) {
    measured = millis();
    device->record("{\"Temp\":" + std::to_string(temperatureRead()) + "}", measured);
  }
  device->poll(millis());
  if (board.wanted) ws.loop();
}
