"""A complete device for the hub in Python 3.9 or later: pip install websockets (10.4 or later).

    HUB=wss://hub.example:8443 CA=ca.pem DEVICE=node-01 TOKEN_FILE=node-01.token python3 device.py

Put your sensor into measure(), your commands into COMMANDS. What it does beside: docs/devices.md.
"""
import asyncio, collections, json, os, random, secrets, ssl, sys, tempfile, time
import websockets

QUEUE = 10_000  # readings that are kept until they are acked; then the oldest is dropped
FLIGHT = 500  # readings sent ahead of the acks
BATCH = 50  # readings a frame
PAUSE, LONGEST = 1.0, 60.0  # seconds between two attempts to connect
VERSION = int(websockets.__version__.split(".")[0])


class Device:
    def __init__(self, hub, device, token_file, ca, commands):
        self.url, self.token_file, self.commands = f"{hub}/connect/{device}", token_file, commands
        self.tls = ssl.create_default_context(cafile=ca) if hub.startswith("wss:") else None
        self.boot, self.seq = secrets.token_urlsafe(8), 0  # a new numbering with each start, as the queue is in memory
        self.queue, self.acked, self.sent, self.dropped = collections.deque(), 0, 0, 0
        self.answers = collections.OrderedDict()  # of the last commands, by id: a command that comes again is not run again
        self.news = asyncio.Event()

    def record(self, values, ts=None):
        """Queues a reading. It is safe once acked has reached the number that is returned."""
        if len(self.queue) == QUEUE:
            self.queue.popleft()
            self.dropped += 1
        self.seq += 1
        self.queue.append((self.seq, {"ts": ts or int(time.time() * 1000), "values": values}))
        self.news.set()
        return self.seq

    async def run(self):
        attempt = 0
        while True:
            welcomed = asyncio.Event()
            try:
                await self.connection(welcomed)
                wait = None
            except Exception as error:  # whatever ended it: the next connection is the cure
                wait = self.advised(error)
                print("connection ended:", repr(error), file=sys.stderr)
            attempt = 0 if welcomed.is_set() else attempt + 1
            if wait is None:  # full jitter: devices that were cut off together do not come back together
                wait = random.uniform(0, min(LONGEST, PAUSE * 2**attempt))
            await asyncio.sleep(wait)

    @staticmethod
    def advised(error):
        """When the hub said to come back, in seconds; None if it did not."""
        response = getattr(error, "response", error)  # of an upgrade that was refused
        status = getattr(response, "status_code", 0)
        if status in (401, 403):
            return LONGEST  # nothing will change soon
        if status in (429, 503):
            return float(response.headers.get("Retry-After", PAUSE))
        code, reason = getattr(error, "code", 0), getattr(error, "reason", "")
        if code in (1012, 1013):
            try:
                return json.loads(reason)["retry_after_ms"] / 1000
            except (ValueError, KeyError, TypeError):
                return None
        return LONGEST if code in (4001, 4003, 4004) else None

    async def connection(self, welcomed):
        with open(self.token_file) as f:
            header = {"Authorization": "Bearer " + f.read().strip()}
        options = {"extra_headers" if VERSION < 14 else "additional_headers": header}
        # ping_interval finds a dead connection in silence; the library answers the hub's own pings.
        async with websockets.connect(self.url, ssl=self.tls, subprotocols=["hub.v1+json"], ping_interval=30, ping_timeout=30, max_size=1 << 20, **options) as ws:
            hello = {"boot": self.boot, "time": int(time.time() * 1000), "firmware": "1.0", "model": "python", "methods": list(self.commands)}
            await ws.send(json.dumps({"id": "hello", "method": "hello", "params": hello}))
            sender = None
            try:
                async for text in ws:
                    frame = json.loads(text)
                    if frame.get("id") == "hello" and "result" in frame:
                        self.take_ack(frame["result"].get("ack", 0))
                        self.sent = self.acked  # what is not acked is sent again, in order
                        welcomed.set()
                        sender = asyncio.ensure_future(self.send(ws))
                    elif "method" in frame:
                        await self.handle(ws, frame)
                    elif "error" in frame:
                        print("the hub refused:", frame["error"], file=sys.stderr)
            finally:
                if sender:
                    sender.cancel()

    async def send(self, ws):
        while True:
            self.news.clear()
            while True:
                batch = [r for r in self.queue if self.sent < r[0] <= self.acked + FLIGHT][:BATCH]
                if not batch:
                    break
                params = {"boot": self.boot, "seq": batch[0][0], "readings": [reading for _, reading in batch]}
                self.sent = batch[-1][0]
                await ws.send(json.dumps({"method": "telemetry", "params": params}))
            await self.news.wait()

    def take_ack(self, seq):
        self.acked = max(self.acked, seq)
        while self.queue and self.queue[0][0] <= self.acked:
            self.queue.popleft()
        self.news.set()

    async def handle(self, ws, frame):
        method, params, id = frame["method"], frame.get("params") or {}, frame.get("id")
        if method == "hub.ack":
            if params.get("boot") == self.boot:
                self.take_ack(params["seq"])
        elif method == "hub.notice":
            print("the hub says:", params, file=sys.stderr)
        elif method == "hub.probe":
            await ws.send(json.dumps({"id": id, "result": {}}))
        elif method == "hub.credentials":
            self.store_token(params["token"])  # first, for the old one ends with the answer
            await ws.send(json.dumps({"id": id, "result": {}}))
        elif id is not None:
            await ws.send(json.dumps(self.answer(frame, method, params, id)))

    def answer(self, frame, method, params, id):
        if id in self.answers:
            return self.answers[id]
        if method not in self.commands:
            outcome = {"error": {"code": -32601, "message": "no such method: " + method}}
        elif frame.get("expires", float("inf")) < time.time() * 1000:
            outcome = {"error": {"code": -32050, "message": "it came after its time"}}
        else:
            try:
                outcome = {"result": self.commands[method](params)}
            except Exception as error:
                outcome = {"error": {"code": 1, "message": repr(error)}}
        self.answers[id] = {"id": id, **outcome}
        if len(self.answers) > 64:
            self.answers.popitem(last=False)
        return self.answers[id]

    def store_token(self, token):
        """Leaves the old token or the new one, whenever the power fails."""
        directory = os.path.dirname(os.path.abspath(self.token_file))
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as f:
            f.write(token + "\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(f.name, self.token_file)


COMMANDS = {"ping": lambda params: {"pong": True}}


async def main():
    env = os.environ
    device = Device(env["HUB"], env["DEVICE"], env["TOKEN_FILE"], env.get("CA"), COMMANDS)
    running = asyncio.ensure_future(device.run())
    while not running.done():
        device.record(measure(device.seq + 1))
        await asyncio.sleep(float(env.get("EVERY", 10)))


def measure(n):
    return {"Temp": 20 + random.random(), "n": n}


if __name__ == "__main__":
    asyncio.run(main())
