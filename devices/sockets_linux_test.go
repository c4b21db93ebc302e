package devices_test

import (
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"telemetryhub/devices"
)

// Accepted sockets have the listener's option, and no keepalive of TCP.
func TestAcceptedSocketsAreBounded(t *testing.T) {
	l, err := devices.ListenConfig(45*time.Second).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(level, name int) (value int) {
		_ = raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, name) })
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	if got := option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != 45_000 {
		t.Errorf("TCP_USER_TIMEOUT %d, want 45000", got)
	}
	if got := option(unix.SOL_SOCKET, unix.SO_KEEPALIVE); got != 0 {
		t.Error("TCP's keepalive is on")
	}
}

// A device's network is cut without a word, in a network namespace of its own. What the hub sends it is lost, and known to
// be, long before its keepalive of 15 minutes says so.
func TestWhatIsSentIntoACutNetworkIsKnownToBeLost(t *testing.T) {
	h := newHub(t)
	cut := make(chan struct{})
	ready := make(chan net.Listener)
	device := make(chan *device)
	go func() { // its thread is in the namespace, and ends with it
		runtime.LockOSThread()
		defer close(ready)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			if os.Getenv("CI") == "true" {
				t.Errorf("no network namespace: %v; run the tests as root, or in a user namespace of their own", err)
			}
			return
		}
		loopback(t, true)
		l, err := devices.ListenConfig(time.Second).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		ready <- l
		device <- h.dialTCP(l.Addr().String(), "d1")
		<-cut
		loopback(t, false)
		cut <- struct{}{}
	}()
	l, ok := <-ready
	if !ok {
		if !t.Failed() {
			t.Skip("no network namespace; run the tests as root")
		}
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/connect", h.connector)
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	defer func() { _ = server.Close(); <-served }()
	d := <-device
	d.welcome(`{"keepalive_s":900}`)
	d.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`) // answered when commands can come
	d.want(result("1"))
	s := h.session("d1")
	cut <- struct{}{}
	<-cut
	changes := h.sessions.Subscribe(10)
	defer changes.Close()
	start := time.Now()
	if err := h.sessions.Send("d1", s, ping("A")); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-changes.C():
		if took := time.Since(start); c.Online || took < 500*time.Millisecond {
			t.Errorf("after %v %+v", took, c)
		}
	case <-time.After(30 * time.Second):
		t.Error("the hub still takes the device for connected")
	}
}

// loopback brings the loopback interface of the calling thread's namespace up or down.
func loopback(t *testing.T, up bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq("lo")
	if err != nil {
		t.Error(err)
		return
	}
	if up {
		ifreq.SetUint16(unix.IFF_UP)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifreq); err != nil {
		t.Error(err)
	}
}
