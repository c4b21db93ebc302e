// Package web serves the dashboard: a single page (Svelte, built by Vite into dist/) embedded in the binary.
//
// It owns the files, their caching, their compression and the security headers that belong to a page. It does not
// know the REST API, who is logged in, or where it is mounted; it must be mounted at the root of a host, below more
// specific patterns such as /api/ and /connect.
//
// Overload: every answer comes from memory, so there is nothing to queue; a slow reader costs its own connection,
// whose write deadline is the server's.
//
// Reading order: web.go (handler), then the page itself: src/main.ts, src/App.svelte, src/lib (api, live, fleet,
// series), src/pages, src/components, src/messages.
package web
