"""docs/clients/micropython/hub.py under CPython, which has the same asyncio and ssl."""
import asyncio, os, sys, urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../../../docs/clients/micropython"))
import hub

env = os.environ
url = urllib.parse.urlsplit(env["HUB"])


async def main():
    device = hub.Device(url.hostname, url.port, env["DEVICE"], env["TOKEN_FILE"], env["CA"], {"ping": lambda params: {"pong": True}})
    running = asyncio.create_task(device.run())
    while not running.done():
        device.record({"n": device.seq + 1})
        await asyncio.sleep(float(env["EVERY"]))

asyncio.run(main())
