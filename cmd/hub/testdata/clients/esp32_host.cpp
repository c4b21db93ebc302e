// docs/clients/esp32/hub_device.h on this machine: the board is standard input and output, one event a line, which esp32.mjs
// joins to a WebSocket.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <random>

#include "hub_device.h"

class HostBoard : public HubBoard {
 public:
  std::random_device random_;
  void connect() override { puts("connect"); }
  void disconnect() override { puts("disconnect"); }
  bool send(const std::string &text) override { return printf("text %s\n", text.c_str()) > 0; }
  bool storeToken(const char *token) override { return printf("token %s\n", token) > 0; }
  uint32_t random() override { return random_(); }
  cJSON *command(const char *method, const cJSON *) override {
    if (std::string(method) != "ping") return NULL;
    cJSON *result = cJSON_CreateObject();
    cJSON_AddTrueToObject(result, "pong");
    return result;
  }
};

static uint32_t now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint32_t)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static void take(HubDevice &device, const std::string &line) {
  size_t space = line.find(' ');
  std::string event = line.substr(0, space), rest = space == std::string::npos ? "" : line.substr(space + 1);
  int code = atoi(rest.c_str());
  std::string reason = rest.find(' ') == std::string::npos ? "" : rest.substr(rest.find(' ') + 1);
  if (event == "opened") device.opened();
  if (event == "alive") device.alive();
  if (event == "text") device.text(rest.data(), rest.size());
  if (event == "closed") device.closed(code, reason);
  if (event == "refused") device.refused(code, atoi(reason.c_str()));
}

int main() {
  setvbuf(stdout, NULL, _IOLBF, 0);
  HostBoard board;
  HubDevice device(board, "esp32-host", "1.0");
  uint32_t every = (uint32_t)(1000 * atof(getenv("EVERY"))), measured = now();
  std::string held;
  for (;;) {
    struct pollfd in = {0, POLLIN, 0};
    if (poll(&in, 1, 10) > 0) {
      char buf[4096];
      ssize_t n = read(0, buf, sizeof buf);
      if (n <= 0) return 0;
      held.append(buf, n);
      for (size_t end; (end = held.find('\n')) != std::string::npos; held.erase(0, end + 1)) take(device, held.substr(0, end));
    }
    if (now() - measured >= every) {
      measured += every;
      static int number = 0;
      device.record("{\"n\":" + std::to_string(++number) + "}", now());
    }
    device.poll(now());
  }
}
