// The board of esp32_host.cpp: a WebSocket for its lines.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const { HUB, CA, DEVICE, TOKEN_FILE, HOST_PROGRAM } = process.env;
const program = spawn(HOST_PROGRAM, { stdio: ['pipe', 'pipe', 'inherit'] });
const tell = (line) => program.stdin.write(`${line}\n`);
program.stdin.on('error', () => {});
program.on('exit', (status) => process.exit(status ?? 1));
process.on('exit', () => program.kill());
let ws;

function connect() {
  const headers = { Authorization: `Bearer ${readFileSync(TOKEN_FILE, 'utf8').trim()}` };
  const socket = (ws = new WebSocket(`${HUB}/connect/${DEVICE}`, ['hub.v1+json'], { ca: readFileSync(CA), headers }));
  socket.on('unexpected-response', (request, response) => {
    tell(`refused ${response.statusCode} ${response.headers['retry-after'] ?? 1}`);
    request.destroy();
  });
  socket.on('open', () => tell('opened'));
  socket.on('ping', () => tell('alive'));
  socket.on('message', (data) => tell(`text ${data}`));
  socket.on('error', () => {}); // close follows
  socket.on('close', (code, reason) => socket === ws && tell(`closed ${code} ${reason}`));
}

createInterface({ input: program.stdout }).on('line', (line) => {
  if (line === 'connect') connect();
  else if (line === 'disconnect') ws.terminate();
  else if (line.startsWith('text ')) ws.readyState === WebSocket.OPEN && ws.send(line.slice(5));
  else if (line.startsWith('token ')) writeFileSync(TOKEN_FILE, line.slice(6));
});
