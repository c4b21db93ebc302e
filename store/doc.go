// Package store keeps readings as time series and gives them back. One [Store] speaks to two engines through
// influxdb-client-go, by one code path:
//
//   - [OpenInfluxDB]: an InfluxDB server (1.8, 2.x, Cloud, 3, or another that takes the v2 write API and InfluxQL);
//   - [OpenEmbedded]: InfluxDB's own storage engine (v1.8.10) in this process, reached by the same client through an
//     http.RoundTripper that needs no socket.
//
// Writes are line protocol with times in nanoseconds at /api/v2/write; reads are InfluxQL at /query, the one language
// that all of them answer. A series is a measurement with its tags (at least `device`); writing a (series, time, field)
// again overwrites it, so that a repeated write makes no second point.
//
// What it does not do: it makes no line protocol, does not retry, does not bisect, keeps no queue and decides no types;
// that is the caller's. Each write has one of three outcomes: accepted (nil), rejected (*[RejectedError],
// *[TooLargeError]), or kept by the caller for later (*[RetryError], *[ConfigError]). A write that was rejected may have
// been written in part: both engines write the points that are good and name what was wrong with the first that is not.
// The caller splits the batch until each part is either accepted or a single bad line; the points written twice on the
// way are the same points.
//
// Overload: there is no queue here. Write and Query take as long as the engine takes, at most their context and the
// configured timeout; a query of the embedded engine is ended after 10 s. The amount of one answer is bounded: [MaxRows] rows or windows, [MaxFields] named fields. The embedded engine's shards are long (a year, or an eighth
// of the retention), so that readings of any time open a bounded number of files.
//
// Durability of the embedded engine: its write-ahead log is fsynced before a write is accepted. What the engine leaves
// to the kernel although the data cannot be found without it (the file of series keys, the manifest of a new shard and
// the folders' entries) is fsynced here, also before the write is accepted; see embedded_sync.go.
//
// Files in reading order: store.go (Store, Write, Check), errors.go, write.go (what an answer to a write means),
// answer.go (keeping what a server answered), query.go (Query and its InfluxQL), read.go (running it and decoding),
// latest.go, fieldtypes.go, influxdb.go and influxdb_check.go (servers), embedded.go (the engine's life),
// embedded_http.go (the RoundTripper), embedded_series.go, embedded_shards.go, embedded_sync.go,
// embedded_mend.go (what a crash leaves), embedded_retention.go, embedded_log.go. Package influxtest
// runs a real server for tests.
package store
