// A device for the hub in C++11, for ESP-IDF and Arduino: what it says and remembers, without the board. What the board
// has to do (a WebSocket, a clock, a place for the token) is HubBoard; esp-idf.cpp and arduino.ino are two of them.
// JSON by cJSON, which ESP-IDF and the ESP32's Arduino core bring along. What it does: docs/devices.md.
//
// All calls come from one task, or under one lock.
#pragma once

#include <cJSON.h>
#include <stdint.h>

#include <deque>
#include <string>
#include <utility>

class HubBoard {
 public:
  virtual ~HubBoard() {}
  virtual void connect() = 0;     // begins a connection; opened, closed or refused follows
  virtual void disconnect() = 0;  // drops it; closed follows, or need not
  virtual bool send(const std::string &text) = 0;
  virtual bool storeToken(const char *token) = 0;  // true: it is in flash
  virtual uint32_t random() = 0;
  virtual cJSON *command(const char *method, const cJSON *params) = 0;  // its result; NULL: there is no such method
};

class HubDevice {
 public:
  static const size_t kQueue = 200;   // readings that are kept until they are acked; then the oldest is dropped
  static const uint32_t kFlight = 50;  // readings sent ahead of the acks
  static const size_t kBatch = 10;    // readings a frame
  static const size_t kAnswers = 16;  // answers of the last commands
  static const uint32_t kPause = 1000, kLongest = 60000;  // ms between two attempts to connect
  static const uint32_t kUpgrade = 30000;                 // ms for a connection and hello's answer

  HubDevice(HubBoard &board, const char *model, const char *firmware) : board_(board), model_(model), firmware_(firmware) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
    for (int i = 0; i < 12; i++) boot_ += digits[board_.random() & 31];  // a new numbering with each start
  }

  // record queues a reading, {"Temp":20.5}. It is safe once acked() has reached the number that is returned.
  uint32_t record(const std::string &values, uint32_t now) {
    if (queue_.size() == kQueue) queue_.pop_front();
    Reading r = {++seq_, now, values};
    queue_.push_back(r);
    return seq_;
  }

  uint32_t acked() const { return acked_; }

  // poll is called often, with a clock in ms that may wrap.
  void poll(uint32_t now) {
    now_ = now;
    if (state_ == kWaiting) {
      if (now - since_ < wait_) return;
      enter(kConnecting);
      board_.connect();
      return;
    }
    // The hub pings what is silent: nothing for two intervals is a dead connection.
    if (now - since_ > (state_ == kWelcomed ? 2 * keepalive_ : kUpgrade)) {
      board_.disconnect();
      closed(1006, "");
      return;
    }
    while (state_ == kWelcomed && sendBatch()) {
    }
  }

  // What the board tells of its connection. alive: a ping came.
  void opened() {
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "boot", boot_.c_str());
    cJSON_AddStringToObject(params, "model", model_);
    cJSON_AddStringToObject(params, "firmware", firmware_);
    cJSON_AddNumberToObject(params, "max_frame", 4096);
    cJSON *hello = cJSON_CreateObject();
    cJSON_AddStringToObject(hello, "id", "hello");
    cJSON_AddStringToObject(hello, "method", "hello");
    cJSON_AddItemToObject(hello, "params", params);
    board_.send(print(hello));
  }

  void alive() { since_ = now_; }

  void refused(int status, uint32_t retryAfterSeconds) {
    if (status == 401 || status == 403) {
      pause(kLongest);  // nothing will change soon
    } else if (status == 429 || status == 503) {
      pause(1000 * retryAfterSeconds);
    } else {
      closed(1006, "");
    }
  }

  void closed(int code, const std::string &reason) {
    if (state_ == kWaiting) return;
    if (code == 4001 || code == 4003 || code == 4004) return pause(kLongest);
    if (code == 1012 || code == 1013) {
      cJSON *said = cJSON_Parse(reason.c_str());
      const cJSON *ms = cJSON_GetObjectItemCaseSensitive(said, "retry_after_ms");
      if (cJSON_IsNumber(ms)) advised_ = (uint32_t)ms->valuedouble;
      cJSON_Delete(said);
    }
    if (advised_ > 0) return pause(advised_);
    uint32_t most = attempt_ < 6 ? kPause << attempt_ : kLongest;
    pause(board_.random() % most);  // full jitter: devices that were cut off together do not come back together
  }

  void text(const char *data, size_t size) {
    alive();
    cJSON *frame = cJSON_ParseWithLength(data, size);
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(frame, "id");
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(frame, "method");
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(frame, "params");
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(frame, "result");
    if (cJSON_IsString(method)) {
      handle(method->valuestring, cJSON_IsString(id) ? id->valuestring : NULL, params);
    } else if (result && cJSON_IsString(id) && std::string(id->valuestring) == "hello") {
      keepalive_ = 1000 * (uint32_t)number(result, "keepalive_s", 45);
      takeAck((uint32_t)number(result, "ack", 0));
      sent_ = acked_;  // what is not acked is sent again, in order
      attempt_ = 0;
      enter(kWelcomed);
    }
    cJSON_Delete(frame);
  }

 private:
  struct Reading {
    uint32_t seq, at;
    std::string values;
  };
  enum State { kWaiting, kConnecting, kWelcomed };

  HubBoard &board_;
  const char *model_, *firmware_;
  std::string boot_;
  std::deque<Reading> queue_;
  std::deque<std::pair<std::string, std::string> > answers_;  // by id: a command that comes again is not run again
  uint32_t seq_ = 0, acked_ = 0, sent_ = 0;
  State state_ = kWaiting;
  uint32_t now_ = 0, since_ = 0, wait_ = 0, advised_ = 0, keepalive_ = 45000, attempt_ = 0;

  void enter(State s) {
    state_ = s;
    since_ = now_;
  }

  void pause(uint32_t ms) {
    wait_ = ms;
    advised_ = 0;
    attempt_++;
    enter(kWaiting);
  }

  static double number(const cJSON *object, const char *name, double otherwise) {
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(n) ? n->valuedouble : otherwise;
  }

  static std::string print(cJSON *json) {  // and deletes it
    char *text = cJSON_PrintUnformatted(json);
    std::string s = text ? text : "";
    cJSON_free(text);
    cJSON_Delete(json);
    return s;
  }

  bool sendBatch() {
    uint32_t first = 0, last = 0;
    std::string readings;
    for (size_t i = 0, n = 0; i < queue_.size() && n < kBatch; i++) {
      const Reading &r = queue_[i];
      if (r.seq <= sent_) continue;
      if (r.seq > acked_ + kFlight) break;
      if (n++ == 0) first = r.seq; else readings += ',';
      last = r.seq;
      readings += "{\"age_ms\":" + std::to_string(now_ - r.at) + ",\"values\":" + r.values + "}";
    }
    if (first == 0) return false;
    if (!board_.send("{\"method\":\"telemetry\",\"params\":{\"boot\":\"" + boot_ + "\",\"seq\":" + std::to_string(first) + ",\"readings\":[" + readings + "]}}")) return false;
    sent_ = last;
    return true;
  }

  void takeAck(uint32_t seq) {
    if (seq > acked_) acked_ = seq;
    while (!queue_.empty() && queue_.front().seq <= acked_) queue_.pop_front();
  }

  void handle(const std::string &method, const char *id, const cJSON *params) {
    if (method == "hub.ack") {
      const cJSON *boot = cJSON_GetObjectItemCaseSensitive(params, "boot");
      if (cJSON_IsString(boot) && boot_ == boot->valuestring) takeAck((uint32_t)number(params, "seq", 0));
      return;
    }
    if (method == "hub.notice") {  // the hub's stop is told so as well, for libraries that hide the close code
      const cJSON *code = cJSON_GetObjectItemCaseSensitive(params, "code");
      if (cJSON_IsString(code) && std::string(code->valuestring) == "hub_stopping") advised_ = (uint32_t)number(params, "retry_after_ms", 0);
      return;
    }
    if (!id) return;
    if (method == "hub.probe") return answer(id, cJSON_CreateObject(), 0, "");
    if (method == "hub.credentials") {  // stored first, for the old one ends with the answer
      const cJSON *token = cJSON_GetObjectItemCaseSensitive(params, "token");
      if (cJSON_IsString(token) && board_.storeToken(token->valuestring)) return answer(id, cJSON_CreateObject(), 0, "");
      return answer(id, NULL, 1, "the token could not be stored");
    }
    for (size_t i = 0; i < answers_.size(); i++) {
      if (answers_[i].first == id) {
        board_.send(answers_[i].second);
        return;
      }
    }
    cJSON *result = board_.command(method.c_str(), params);
    std::string said = answerText(id, result, result ? 0 : -32601, "no such method");
    answers_.push_back(std::make_pair(std::string(id), said));
    if (answers_.size() > kAnswers) answers_.pop_front();
    board_.send(said);
  }

  void answer(const char *id, cJSON *result, int code, const char *message) { board_.send(answerText(id, result, code, message)); }

  static std::string answerText(const char *id, cJSON *result, int code, const char *message) {
    cJSON *frame = cJSON_CreateObject();
    cJSON_AddStringToObject(frame, "id", id);
    if (code == 0) {
      cJSON_AddItemToObject(frame, "result", result);
    } else {
      cJSON *error = cJSON_AddObjectToObject(frame, "error");
      cJSON_AddNumberToObject(error, "code", code);
      cJSON_AddStringToObject(error, "message", message);
    }
    return print(frame);
  }
};
