// The device on ESP-IDF 5: idf.py add-dependency espressif/esp_websocket_client, and hub_device.h beside this file. The
// network is up, and flash (NVS) open, when hub_run is called. HUB_CA is the hub's ca.pem as a text.
#include <esp_log.h>
#include <esp_random.h>
#include <esp_timer.h>
#include <esp_websocket_client.h>
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>
#include <nvs.h>

#include <mutex>

#include "hub_device.h"

static const char *HUB_URI = "wss://hub.example:8443/connect/node-01";
extern const char HUB_CA[];

class EspBoard : public HubBoard {
 public:
  std::recursive_mutex lock;  // the WebSocket has a task of its own
  HubDevice device;

  EspBoard() : device(*this, "esp32", "1.0") {}

  void connect() override {
    drop();
    headers_ = "Authorization: Bearer " + token() + "\r\n";
    esp_websocket_client_config_t config = {};
    config.uri = HUB_URI;
    config.cert_pem = HUB_CA;
    config.subprotocol = "hub.v1+json";
    config.headers = headers_.c_str();
    config.disable_auto_reconnect = true;
    config.buffer_size = 4096;
    client_ = esp_websocket_client_init(&config);
    esp_websocket_register_events(client_, WEBSOCKET_EVENT_ANY, event, this);
    esp_websocket_client_start(client_);
  }

  void disconnect() override {}  // connect drops the client that there was

  bool send(const std::string &text) override {
    return esp_websocket_client_send_text(client_, text.data(), text.size(), pdMS_TO_TICKS(10000)) == (int)text.size();
  }

  bool storeToken(const char *token) override {
    nvs_handle_t nvs;
    if (nvs_open("hub", NVS_READWRITE, &nvs) != ESP_OK) return false;
    bool stored = nvs_set_str(nvs, "token", token) == ESP_OK && nvs_commit(nvs) == ESP_OK;
    nvs_close(nvs);
    return stored;
  }

  uint32_t random() override { return esp_random(); }

  cJSON *command(const char *method, const cJSON *params) override {
    if (std::string(method) != "ping") return NULL;
    cJSON *result = cJSON_CreateObject();
    cJSON_AddTrueToObject(result, "pong");
    return result;
  }

 private:
  esp_websocket_client_handle_t client_ = NULL;
  std::string headers_, message_;

  void drop() {
    if (!client_) return;
    esp_websocket_client_handle_t gone = client_;
    client_ = NULL;
    lock.unlock();  // its task may wait for the lock before it ends
    esp_websocket_client_destroy(gone);
    lock.lock();
  }

  std::string token() {
    char text[128] = "";
    size_t size = sizeof(text);
    nvs_handle_t nvs;
    if (nvs_open("hub", NVS_READONLY, &nvs) == ESP_OK) {
      nvs_get_str(nvs, "token", text, &size);
      nvs_close(nvs);
    }
    return text;
  }

  static void event(void *self, esp_event_base_t, int32_t id, void *about) {
    EspBoard *b = static_cast<EspBoard *>(self);
    esp_websocket_event_data_t *data = static_cast<esp_websocket_event_data_t *>(about);
    std::lock_guard<std::recursive_mutex> held(b->lock);
    if (data->client != b->client_) return;
    switch (id) {
      case WEBSOCKET_EVENT_CONNECTED:
        return b->device.opened();
      case WEBSOCKET_EVENT_DATA:
        return b->data(data);
      case WEBSOCKET_EVENT_ERROR:
        // The client does not show Retry-After: 503 waits for what hub_device.h takes from it, here 5 s.
        if (int status = data->error_handle.esp_ws_handshake_status_code) return b->device.refused(status, 5);
        return b->device.closed(1006, "");
      case WEBSOCKET_EVENT_DISCONNECTED:
      case WEBSOCKET_EVENT_CLOSED:
        return b->device.closed(1006, "");
    }
  }

  void data(esp_websocket_event_data_t *d) {
    device.alive();
    if (d->op_code == 8 && d->data_len >= 2) {
      const uint8_t *p = (const uint8_t *)d->data_ptr;
      return device.closed(p[0] << 8 | p[1], std::string(d->data_ptr + 2, d->data_len - 2));
    }
    if (d->op_code > 2) return;
    if (d->payload_offset == 0 && d->op_code != 0) message_.clear();
    message_.append(d->data_ptr, d->data_len);
    if (d->fin && d->payload_offset + d->data_len >= d->payload_len) device.text(message_.data(), message_.size());
  }
};

extern "C" void hub_run(float (*temperature)(void)) {
  EspBoard *b = new EspBoard();
  for (uint32_t i = 0;; i++) {
    uint32_t now = (uint32_t)(esp_timer_get_time() / 1000);
    {
      std::lock_guard<std::recursive_mutex> held(b->lock);
      if (i % 500 == 0) b->device.record("{\"Temp\":" + std::to_string(temperature()) + "}", now);
      b->device.poll(now);
    }
    vTaskDelay(pdMS_TO_TICKS(20));
  }
}
