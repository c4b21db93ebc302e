package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Devices that write CBOR and SenML are what those that write JSON are: each reading stored once and with its value,
// also over a hub that was killed, and commands answered.
func TestDevicesOfEachEncoding(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	for _, c := range []struct{ encoding, protocol string }{{"cbor", "wss"}, {"senml+json", "wss"}, {"senml+cbor", "wss"}, {"cbor", "mqtt"}, {"senml+cbor", "mqtt"}, {"json", "mqtt+wss"}} {
		t.Run(c.encoding+" over "+c.protocol, func(t *testing.T) {
			result := h.simulate(func(<-chan struct{}) {
				device := h.online(3)[0]
				out, errs, status := h.ctl("send", device, "set", "relay=true", "level=0.5", "--wait")
				if status != 0 || !strings.Contains(out, `"level":0.5`) {
					t.Errorf("set: status %d, %q, %q", status, out, errs)
				}
				h.kill()
				h.again()
			}, "--devices", "3", "--rate", "50", "--batch", "5", "--duration", "3s", "--verify", "--encoding", c.encoding, "--protocol", c.protocol, "--faults", "duplicate,bad-frame,bad-type")
			if result.Lost != 0 || result.Duplicated != 0 || result.Sent == 0 || result.Stored != result.Sent {
				t.Errorf("%+v", result)
			}
		})
	}
	out, _, _ := h.ctl("latest", "sim-00001")
	if !strings.Contains(out, " Cel ") || !strings.Contains(out, " %RH ") {
		t.Errorf("the units are not shown:\n%s", out)
	}
}

func TestPythonsWebsocketsNegotiateSenML(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	python(t, "websockets", `
import asyncio, json, ssl, sys
import websockets
url, ca, token = sys.argv[1:]
async def main():
    tls = ssl.create_default_context(cafile=ca)
    async with websockets.connect(url, ssl=tls, subprotocols=["hub.v2+json", "senml+json", "hub.v1+json"], extra_headers={"Authorization": "Bearer " + token}) as ws:
        assert ws.subprotocol == "senml+json", ws.subprotocol
        await ws.send(json.dumps({"id": 1, "method": "hello", "params": {"ack": True}}))
        assert json.loads(await ws.recv())["result"]["device"] == "py"
        await ws.send(json.dumps([{"bn": "py:", "bt": 1700000000, "n": "temp", "u": "Cel", "v": 21.5}, {"n": "temp", "t": 60, "v": 22}, {"n": "open", "t": 60, "vb": False}]))
        ack = json.loads(await ws.recv())
        assert ack["method"] == "hub.ack" and ack["params"] == {"count": 1}, ack
asyncio.run(main())
`, strings.Replace(h.url, "https://", "wss://", 1)+"/connect", h.ca(), h.newDevice("py"))
	got := h.stored("py")
	if len(got) != 2 || got[0].TS != 1700000000000 || got[0].Values["temp"] != 21.5 || got[1].TS != 1700000060000 || fmt.Sprint(got[1].Values) != "map[open:false temp:22]" {
		t.Errorf("stored %+v", got)
	}
}

// What is posted is read as its Content-Type says; an operator sees a reading of CBOR as text.
func TestPostsOfEachContentType(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("p1")
	post := func(contentType, body string) int {
		t.Helper()
		data, err := hex.DecodeString(body)
		if err != nil {
			data = []byte(body)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/api/v1/devices/p1/telemetry", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", contentType)
		resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for contentType, body := range map[string]string{
		"application/json":       `{"ts":1458031641000,"values":{"T":20.48}}`,
		"application/cbor":       "a2627473c11a56e7cc1a6676616c756573a16154fa41a3d70a", // ts 1458031642 by tag 1, T 20.48 in 32 bits
		"application/senml+json": `[{"bn":"p1:","bt":1458031643,"n":"T","u":"Cel","v":20.48}]`,
		"application/senml+cbor": "81a4221a56e7cc1c0061540163" + "43656c" + "02c482211908" + "00", // 1458031644, 2048e-2
	} {
		if status := post(contentType, body); status != http.StatusNoContent {
			t.Errorf("%s: status %d", contentType, status)
		}
	}
	until(t, "four readings to be stored", func() bool { return len(h.stored("p1")) == 4 })
	for i, r := range h.stored("p1") {
		if r.Values["T"] != 20.48 || r.TS != int64(1458031641000+1000*i) {
			t.Errorf("reading %d is %+v", i, r)
		}
	}
	if status := post("application/cbor", "a26154f97e006162420102"); status != http.StatusNoContent { // T NaN, b bytes
		t.Errorf("status %d", status)
	}
	until(t, "the reading to be set aside", func() bool {
		out, _, _ := h.ctl("quarantine", "ls", "--device", "p1")
		return strings.Contains(out, "number_out_of_range") && strings.Contains(out, `{"T":NaN,"b":h'0102'}`)
	})
}
