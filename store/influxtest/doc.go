// Package influxtest runs a real InfluxDB 1.8 server (influxd) for tests and benchmarks.
//
// [Start] runs one in a folder of its own on a free port of 127.0.0.1; [StartT] does the same for a test and ends it with
// the test. [Server.Stop], [Server.Kill] and [Server.Restart] take the database away and bring it back with the same
// data and the same URL.
//
// The binary is looked for in PATH, then in GOPATH/bin. If it is in neither, it is built by
// `go install github.com/influxdata/influxdb/cmd/influxd@v1.8.3` (pure Go, 1 to 4 minutes the first time). Later releases
// of the 1.x line need a Rust library and do not build this way.
//
// The package does not create databases: the store's Check does, as on a user's first day.
//
// Files: server.go (the process), binary.go (finding and building it), testing.go (StartT), and process_linux.go with
// process_other.go (the server dies with the test binary, where the system can do that).
package influxtest
