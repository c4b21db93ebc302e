"""Python's websockets: a reading with each connection, acknowledged by its answer; answers to commands; a new connection
after the end of one."""
import asyncio, json, os, ssl
import websockets

env = os.environ
url = env["HUB_URL"].replace("https", "wss", 1) + "/connect/" + env["DEVICE"]
tls = ssl.create_default_context(cafile=env["HUB_CA"])
header = {"Authorization": "Bearer " + env["TOKEN"]}


async def serve(n):
    async with websockets.connect(url, ssl=tls, subprotocols=["hub.v1+json"], extra_headers=header) as ws:
        assert ws.subprotocol == "hub.v1+json", ws.subprotocol
        reading = {"ts": 1_700_000_000_000 + n, "values": {"n": n}}
        await ws.send(json.dumps({"id": n, "method": "telemetry", "params": reading}))
        async for text in ws:
            frame = json.loads(text)
            if frame.get("id") == n:
                assert frame["result"] == {}, frame
                print("acked", n, flush=True)
            elif frame.get("method") == "ping":
                await ws.send(json.dumps({"id": frame["id"], "result": {"from": "websockets", "connection": n}}))
                print("answered", n, flush=True)
                if n == int(env["CONNECTIONS"]):
                    await (await ws.ping())  # the answer is out
                    return True


async def main():
    n, done = 0, False
    while not done:
        try:
            n += 1
            done = await serve(n)
        except OSError:
            n -= 1  # it did not connect
        except websockets.ConnectionClosed:
            pass
        await asyncio.sleep(0.3)

asyncio.run(main())
