# A complete device for the hub in MicroPython 1.22 or later (ESP32, RP2040, ...): one file, no packages. Copy it to the
# board with the hub's ca.pem and a file with the device's token, and from main.py, once the network is up:
#
#     import asyncio, hub
#     device = hub.Device("hub.example", 8443, "node-01", "token", "ca.pem", {"ping": lambda params: {"pong": True}})
#     asyncio.create_task(device.run())
#     ...
#     device.record({"Temp": 20.5})
#
# It needs no clock: a reading bears its age. What it does beside: docs/devices.md.
import asyncio, binascii, json, os, random, ssl, time

QUEUE = 200  # readings that are kept until they are acked; then the oldest is dropped
FLIGHT = 50  # readings sent ahead of the acks
BATCH = 10  # readings a frame
PAUSE, LONGEST = 1, 60  # seconds between two attempts to connect

ticks = getattr(time, "ticks_ms", None) or (lambda: time.monotonic_ns() // 1000000)
since = getattr(time, "ticks_diff", None) or (lambda a, b: a - b)


class Closed(Exception):
    def __init__(self, code, reason=""):
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Refused(Exception):
    def __init__(self, status, after):
        super().__init__(status, after)
        self.status, self.after = status, after


class Device:
    def __init__(self, host, port, device, token_file, ca_file, commands):
        self.host, self.port, self.path = host, port, "/connect/" + device
        self.token_file, self.commands, self.tls = token_file, commands, None
        if ca_file:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.tls.verify_mode = ssl.CERT_REQUIRED
            self.tls.load_verify_locations(cafile=ca_file)
        self.boot = binascii.hexlify(os.urandom(6)).decode()  # a new numbering with each start, as the queue is in memory
        self.seq, self.queue, self.acked, self.sent, self.dropped = 0, [], 0, 0, 0
        self.answers, self.order = {}, []  # of the last commands, by id: a command that comes again is not run again
        self.news, self.writing, self.keepalive = asyncio.Event(), asyncio.Lock(), 45

    def record(self, values):
        """Queues a reading. It is safe once acked has reached the number that is returned."""
        if len(self.queue) == QUEUE:
            self.queue.pop(0)
            self.dropped += 1
        self.seq += 1
        self.queue.append((self.seq, ticks(), values))
        self.news.set()
        return self.seq

    async def run(self):
        attempt = 0
        while True:
            self.welcomed, wait = False, None
            try:
                await self.connection()
            except Exception as error:  # whatever ended it: the next connection is the cure
                print("connection ended:", repr(error))
                wait = self.advised(error)
            attempt = 0 if self.welcomed else attempt + 1
            if wait is None:  # full jitter: devices that were cut off together do not come back together
                wait = min(LONGEST, PAUSE * 2 ** min(attempt, 6)) * random.random()
            await asyncio.sleep(wait)

    def advised(self, error):
        """When the hub said to come back, in seconds; None if it did not."""
        if isinstance(error, Refused):
            return LONGEST if error.status in (401, 403) else error.after
        if isinstance(error, Closed):
            if error.code in (4001, 4003, 4004):
                return LONGEST
            if error.code in (1012, 1013):
                try:
                    return json.loads(error.reason)["retry_after_ms"] / 1000
                except (ValueError, KeyError):
                    pass
        return None

    async def connection(self):
        reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port, ssl=self.tls), 20)
        sender = None
        try:
            await asyncio.wait_for(self.upgrade(reader, writer), 20)
            hello = {"boot": self.boot, "firmware": "1.0", "model": "micropython", "methods": list(self.commands), "max_frame": 4096}
            await self.write(writer, {"id": "hello", "method": "hello", "params": hello})
            while True:
                # The hub pings what is silent: nothing for two intervals is a dead connection.
                text = await self.read(reader, writer)
                frame = json.loads(text)
                if frame.get("id") == "hello" and "result" in frame:
                    self.keepalive = frame["result"]["keepalive_s"]
                    self.take_ack(frame["result"].get("ack", 0))
                    self.sent, self.welcomed = self.acked, True  # what is not acked is sent again, in order
                    sender = asyncio.create_task(self.send(writer))
                elif "method" in frame:
                    answer = self.handle(frame)
                    if answer:
                        await self.write(writer, answer)
                elif "error" in frame:
                    print("the hub refused:", frame["error"])
        finally:
            if sender:
                sender.cancel()
            writer.close()

    async def upgrade(self, reader, writer):
        with open(self.token_file) as f:
            token = f.read().strip()
        key = binascii.b2a_base64(os.urandom(16)).strip().decode()
        lines = ("GET %s HTTP/1.1" % self.path, "Host: %s:%d" % (self.host, self.port), "Authorization: Bearer " + token, "Connection: Upgrade",
                 "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key, "Sec-WebSocket-Protocol: hub.v1+json", "", "")
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        status, after = int((await reader.readline()).split()[1]), PAUSE
        while True:
            line = (await reader.readline()).strip().lower()
            if not line:
                break
            if line.startswith(b"retry-after:"):
                after = int(line.split(b":")[1])
        if status != 101:
            raise Refused(status, after)

    async def write(self, writer, frame, opcode=1):
        payload = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        if len(payload) < 126:
            head = bytes((0x80 | opcode, 0x80 | len(payload)))
        else:
            head = bytes((0x80 | opcode, 0xFE, len(payload) >> 8, len(payload) & 255))
        # A client has to mask (RFC 6455 section 5.3); over TLS the mask 0 is as good as any.
        async with self.writing:
            writer.write(head + bytes(4) + payload)
            await writer.drain()

    async def read(self, reader, writer):
        """Returns the next message, and answers what comes between."""
        message = b""
        while True:
            first, size = await asyncio.wait_for(reader.readexactly(2), 2 * self.keepalive)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            elif size == 127:
                raise Closed(1009)
            payload = await asyncio.wait_for(reader.readexactly(size), 20) if size else b""
            opcode = first & 15
            if opcode == 8:
                await self.write(writer, payload[:2], 8)
                raise Closed(int.from_bytes(payload[:2], "big"), payload[2:].decode())
            if opcode == 9:
                await self.write(writer, payload, 10)
            elif opcode < 3:
                message += payload
                if first & 0x80:
                    return message

    async def send(self, writer):
        while True:
            self.news.clear()
            while True:
                batch = [r for r in self.queue if self.sent < r[0] <= self.acked + FLIGHT][:BATCH]
                if not batch:
                    break
                self.sent, now = batch[-1][0], ticks()
                readings = [{"age_ms": since(now, at), "values": values} for _, at, values in batch]
                params = {"boot": self.boot, "seq": batch[0][0], "readings": readings}
                await self.write(writer, {"method": "telemetry", "params": params})
            await self.news.wait()

    def take_ack(self, seq):
        self.acked = max(self.acked, seq)
        while self.queue and self.queue[0][0] <= self.acked:
            self.queue.pop(0)
        self.news.set()

    def handle(self, frame):
        """Returns the answer to a request of the hub; None to a notification."""
        method, params, id = frame["method"], frame.get("params") or {}, frame.get("id")
        if method == "hub.ack":
            if params.get("boot") == self.boot:
                self.take_ack(params["seq"])
        elif method == "hub.notice":
            print("the hub says:", params)
        elif method == "hub.probe":
            return {"id": id, "result": {}}
        elif method == "hub.credentials":
            self.store_token(params["token"])  # first, for the old one ends with the answer
            return {"id": id, "result": {}}
        elif id is not None:
            if id not in self.answers:
                self.answers[id] = self.perform(id, method, params)
                self.order.append(id)
                if len(self.order) > 16:
                    del self.answers[self.order.pop(0)]
            return self.answers[id]

    def perform(self, id, method, params):
        # It came just now, so ttl_ms has not passed; a device that lets commands wait compares it before it starts one.
        if method not in self.commands:
            return {"id": id, "error": {"code": -32601, "message": "no such method: " + method}}
        try:
            return {"id": id, "result": self.commands[method](params)}
        except Exception as error:
            return {"id": id, "error": {"code": 1, "message": repr(error)}}

    def store_token(self, token):
        with open(self.token_file + ".new", "w") as f:
            f.write(token)
        os.rename(self.token_file + ".new", self.token_file)
