// docs/clients/micropython/hub.py in MicroPython itself: its interpreter, asyncio and json, built for WebAssembly. What that
// build lacks of a board's (sockets, ssl, os.urandom, files) is lent by Node; bytes cross as hexadecimal digits.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync, renameSync } from 'node:fs';
import { connect } from 'node:tls';
import { loadMicroPython } from '@micropython/micropython-webassembly-pyscript';

const { HUB, CA, DEVICE, TOKEN_FILE, EVERY, HUB_PY } = process.env;
const url = new URL(HUB);
const sockets = new Map();
let last = 0;

const board = {
  urandom: (n) => randomBytes(n).toString('hex'),
  dial: (host, port) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port, ca: readFileSync(CA), servername: host === '127.0.0.1' ? undefined : host });
      const state = { socket, held: Buffer.alloc(0), ended: false, wake: () => {} };
      socket.on('data', (data) => {
        state.held = Buffer.concat([state.held, data]);
        state.wake();
      });
      for (const end of ['end', 'close', 'error']) {
        socket.on(end, () => {
          state.ended = true;
          state.wake();
          reject(new Error('connection lost'));
        });
      }
      socket.on('secureConnect', () => {
        sockets.set(++last, state);
        resolve(last);
      });
    }),
  /** The next n bytes, or with n 0 the next line; "" when the connection has ended. */
  read: async (id, n) => {
    const state = sockets.get(id);
    for (;;) {
      const take = n || state.held.indexOf(10) + 1;
      if (take > 0 && state.held.length >= take) {
        const got = state.held.subarray(0, take).toString('hex');
        state.held = state.held.subarray(take);
        return got;
      }
      if (state.ended) return '';
      await new Promise((resolve) => (state.wake = resolve));
    }
  },
  write: (id, hex) => sockets.get(id).socket.write(Buffer.from(hex, 'hex')),
  close: (id) => sockets.get(id).socket.destroy(),
  load: (file) => readFileSync(file, 'utf8'),
  store: (file, text) => writeFileSync(file, text),
  rename: (from, to) => renameSync(from, to),
};

const micropython = await loadMicroPython({ stdout: (line) => console.error(line), heapsize: 512 * 1024 });
micropython.registerJsModule('board', board);
micropython.registerJsModule('settings', { host: url.hostname, port: Number(url.port), device: DEVICE, token: TOKEN_FILE, every: Number(EVERY), source: readFileSync(HUB_PY, 'utf8') });
await micropython.runPythonAsync(`
import asyncio, binascii, builtins, sys
import board, settings

class OS:
    def urandom(n): return binascii.unhexlify(board.urandom(n))
    def rename(a, b): board.rename(a, b)

class SSL:
    PROTOCOL_TLS_CLIENT = CERT_REQUIRED = 1
    class SSLContext:
        def __init__(self, protocol): pass
        def load_verify_locations(self, cafile): pass

class File:
    def __init__(self, name, mode="r"): self.name, self.mode = name, mode
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def read(self): return board.load(self.name)
    def write(self, text): board.store(self.name, text)

class Stream:
    def __init__(self, id): self.id = id
    async def readexactly(self, n):
        got = binascii.unhexlify(await board.read(self.id, n))
        if len(got) < n: raise EOFError
        return got
    async def readline(self): return binascii.unhexlify(await board.read(self.id, 0))
    def write(self, b): board.write(self.id, binascii.hexlify(b).decode())
    async def drain(self): await asyncio.sleep(0)
    def close(self): board.close(self.id)

async def open_connection(host, port, ssl):
    assert ssl is not None
    s = Stream(await board.dial(host, port))
    return s, s

asyncio.open_connection = open_connection
sys.modules["os"], sys.modules["ssl"] = OS, SSL
hub = {"__name__": "hub", "open": File}
exec(settings.source, hub)

device = hub["Device"](settings.host, settings.port, settings.device, settings.token, "ca.pem", {"ping": lambda params: {"pong": True}})
async def main():
    running = asyncio.create_task(device.run())
    while not running.done():
        device.record({"n": device.seq + 1})
        await asyncio.sleep(settings.every)
await main()
`);
