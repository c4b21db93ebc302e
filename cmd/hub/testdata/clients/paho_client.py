"""paho-mqtt for Python, over TLS or wss: a reading with each connection, acknowledged by PUBACK; answers to commands;
reconnects by itself."""
import json, os, threading, urllib.parse
import paho.mqtt.client as mqtt

env = os.environ
device, url = env["DEVICE"], urllib.parse.urlsplit(env["BROKER_URL"])
version = int(env["MQTT_VERSION"])
options = dict(client_id=device + "-client", protocol=version, transport="websockets" if url.scheme == "https" else "tcp")
try:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, **options)
except AttributeError:  # before paho 2
    client = mqtt.Client(**options)
client.tls_set(env["HUB_CA"])
client.username_pw_set(device, env["TOKEN"])
client.reconnect_delay_set(1, 1)
connections, published, done = 0, {}, threading.Event()


def topic(about):
    return "devices/%s/%s" % (device, about)


def on_connect(client, userdata, flags, reason, properties=None):
    global connections
    connections += 1
    n = connections
    client.subscribe(topic("command"), qos=1)
    reading = {"ts": 1_700_000_000_000 + n, "values": {"n": n}}
    published[client.publish(topic("telemetry"), json.dumps(reading), qos=1).mid] = "acked %d" % n


def on_message(client, userdata, message):
    command = json.loads(message.payload)
    answer = {"id": command["id"], "result": {"from": "paho", "connection": connections}}
    published[client.publish(topic("response"), json.dumps(answer), qos=1).mid] = "answered %d" % connections


def on_publish(client, userdata, mid, *more):
    print(published[mid], flush=True)
    if published[mid] == "answered " + env["CONNECTIONS"]:
        done.set()


client.on_connect, client.on_message, client.on_publish = on_connect, on_message, on_publish
client.connect(url.hostname, url.port)
client.loop_start()
done.wait()
client.disconnect()
client.loop_stop()
