// Lines to paste that send a device's first reading. Device ids and tokens have no character that a shell or a URL
// would read in its own way (ids: letters, digits, . _ : -; tokens: base64url), so nothing needs quoting. The token goes
// as bearer: in Basic credentials a colon in the id would end the user's name.

export interface Snippet {
  key: 'mqtt' | 'python' | 'http';
  title: string;
  text: string;
}

const MQTT_PORT = 8883;

export function snippets(id: string, token: string, location: { host: string; hostname: string; protocol: string }): Snippet[] {
  const secure = location.protocol === 'https:';
  const origin = `${location.protocol}//${location.host}`;
  const fetchCa = `curl -sk -o ca.pem ${origin}/ca.pem`;
  const reading = `{"values":{"Temp":21.5}}`;
  const curl = secure ? 'curl --cacert ca.pem' : 'curl';
  const user = encodeURIComponent(id);
  return [
    {
      key: 'mqtt',
      title: 'mosquitto_pub',
      text: [
        fetchCa,
        `mosquitto_pub -h ${location.hostname} -p ${MQTT_PORT} --cafile ca.pem \\`,
        `  -i ${id} -u ${id} -P ${token} -q 1 \\`,
        `  -t devices/${id}/telemetry -m '${reading}'`,
      ].join('\n'),
    },
    {
      // The token is in the URL, for the option for headers has another name in each of the library's generations.
      key: 'python',
      title: 'Python (WebSocket)',
      text: [
        ...(secure ? [`# ${fetchCa}`] : []),
        'import asyncio, json, ssl, websockets',
        '',
        `URL = "${secure ? 'wss' : 'ws'}://${location.host}/connect/${user}?token=${token}"`,
        '',
        'async def main():',
        ...(secure ? ['    tls = ssl.create_default_context(cafile="ca.pem")'] : []),
        `    async with websockets.connect(URL${secure ? ', ssl=tls' : ''}) as ws:`,
        '        telemetry = {"id": 1, "method": "telemetry", "params": {"values": {"Temp": 21.5}}}',
        '        await ws.send(json.dumps(telemetry))',
        '        print(await ws.recv())  # the answer comes when the reading is safe on disk',
        '        async for command in ws:',
        '            print(command)',
        '',
        'asyncio.run(main())',
      ].join('\n'),
    },
    {
      key: 'http',
      title: 'curl (HTTP)',
      text: [
        ...(secure ? [fetchCa] : []),
        `${curl} -i -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' \\`,
        `  -d '${reading}' ${origin}/api/v1/devices/${user}/telemetry`,
      ].join('\n'),
    },
  ];
}
