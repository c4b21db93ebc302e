// Runs a command with HUB_URL and HUB_TOKEN of a fake hub that lives as long as it.
import { spawn } from 'node:child_process';
import { TOKEN, startFakeHub } from './fake-hub.mjs';

const [command, ...args] = process.argv.slice(2);
const hub = await startFakeHub();
const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, HUB_URL: hub.url, HUB_TOKEN: TOKEN } });
child.on('exit', (code) => {
  void hub.stop().then(() => process.exit(code ?? 1));
});
