import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  build: {
    // The hub's Go handler serves /assets/* as immutable: everything there bears a hash.
    assetsDir: 'assets',
    assetsInlineLimit: 0, // the content security policy allows no data: scripts or fonts
    modulePreload: { polyfill: false },
    target: 'es2022',
    reportCompressedSize: false, // scripts/precompress.mjs prints what is really sent
  },
  server: {
    // `npm run dev` beside a running hub: HUB_URL=https://127.0.0.1:8443
    proxy: { '/api': { target: process.env['HUB_URL'] ?? 'https://127.0.0.1:8443', secure: false } },
  },
  test: {
    environment: 'node',
    include: ['tests/unit/**/*.test.ts'],
  },
});
