#!/usr/bin/env bash
# Runs the hub with twelve simulated devices that replay real readings, until Ctrl-C. Called by `make run`, which builds
# first. DATA, LISTEN and MQTT_LISTEN change the defaults.
set -euo pipefail
cd "$(dirname "$0")/.."

data="${DATA:-./data}"
listen="${LISTEN:-:8443}"
mqtt_listen="${MQTT_LISTEN:-:8883}"
host="${listen%:*}"
case "$host" in "" | 0.0.0.0 | "[::]") host=localhost ;; esac
url="https://$host:${listen##*:}"
ca="$data/tls/ca.pem"
token="$data/admin.token"
hub='' sim=''

# stop ends what this script started, the devices first, and waits: the hub flushes its journal. It
# sends SIGTERM because a shell starts its background processes deaf to Ctrl-C.
stop() {
    trap - EXIT
    trap '' INT TERM
    for pid in $sim $hub; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" || true
    done
}
trap stop EXIT
trap 'exit 0' INT
trap 'exit 143' TERM

mkdir -p "$data"
log="$data/hub.log"
echo "starting the hub, its log is $log"
bin/hub --data "$data" --listen "$listen" --mqtt-listen "$mqtt_listen" >>"$log" 2>&1 &
hub=$!

# Ready or not within a minute; a hub that has ended has said why.
for ((tries = 0; ; tries++)); do
    if ! kill -0 "$hub" 2>/dev/null; then
        echo "the hub has not started:" >&2
        tail -n 5 "$log" >&2
        exit 1
    fi
    [ -s "$token" ] && [ -s "$ca" ] && bin/hubctl health --url "$url" --ca "$ca" --token-file "$token" >/dev/null 2>&1 && break
    if ((tries >= 120)); then
        echo "the hub is not ready after a minute:" >&2
        bin/hubctl health --url "$url" --ca "$ca" --token-file "$token" >&2 || true
        exit 1
    fi
    sleep 0.5
done

cat <<END

  Telemetry Hub runs.
    dashboard     $url  (the browser warns unless it trusts $ca)
    admin token   $token  (its content is the login)
    try           bin/hubctl devices ls --url $url --ca $ca --token-file $token
    end           Ctrl-C

END

replay=(testdata/room-climate/*.csv)
files="$(IFS=,; echo "${replay[*]}")"
bin/device-sim --url "$url" --ca "$ca" --admin-token-file "$token" --replay "$files" &
sim=$!

# Whichever ends first ends the other; a signal ends the wait.
status=0
wait -n "$hub" "$sim" || status=$?
if ! kill -0 "$hub" 2>/dev/null; then
    echo "the hub has ended:" >&2
    tail -n 5 "$log" >&2
fi
exit "$status"
