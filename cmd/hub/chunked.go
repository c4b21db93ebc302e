package main

import "net/http"

// endChunked ends the connection after the answer to a request that came in chunks. One that has a length as well has to
// be answered so (RFC 9112 section 6.1): a proxy that counted the length would take what follows the chunks for a part of
// the body, and the hub for the next request. net/http drops the length before a handler could see it; so all of them are
// answered so, which costs the few clients that send chunks their keep-alive.
func endChunked(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}
