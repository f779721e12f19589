#!/usr/bin/env bash
# The whole story on one machine, step by step. Called by `make demo`; every command is one that a person could type.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PATH="$root/.venv/bin:$PATH" PYTHONSAFEPATH=1
demo=${DEMO_DIR:-$root/build/demo}
coordinator=127.0.0.1:${CONTRAST_USER_PORT:-1313}
began=$SECONDS

say()  { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; }
run()  { show "$*"; "$@"; }
# As run, where most of the output was seen before: its last lines; all of it is in steps.log.
brief() {
  local lines=$1 code=0; shift
  show "$*"
  "$@" >step.log 2>&1 || code=$?
  { printf '$ %s\n' "$*"; cat step.log; } >>steps.log
  [ "$code" = 0 ] || { cat step.log; return "$code"; }
  [ "$(wc -l <step.log)" -le "$lines" ] || echo "(the last $lines of $(wc -l <step.log) lines)"
  tail -n "$lines" step.log
}
# A command that must be refused: its exit code and its words are part of the story.
refused() {
  local wanted=$1 code=0; shift
  show "$*"
  "$@" >step.log 2>&1 || code=$?
  { printf '$ %s\n' "$*"; cat step.log; } >>steps.log
  sed -n '/^error:/,$p' step.log
  [ "$code" = "$wanted" ] || { cat step.log; echo "demo: exit code $code, $wanted was expected"; exit 1; }
  echo "(refused, exit code $code, as it should be)"
}
wait_for() {  # wait_for SECONDS COMMAND…: until COMMAND succeeds
  local left=$(($1 * 10)); shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1)); [ "$left" -gt 0 ] || { echo "demo: gave up waiting for: $*"; exit 1; }
    sleep 0.1
  done
}
guest=
cleanup() {
  local code=$?
  cd "$demo" 2>/dev/null && contrast dev stop >/dev/null 2>&1 || true
  [ -z "$guest" ] || kill "$guest" 2>/dev/null || true
  [ -z "$guest" ] || wait "$guest" 2>/dev/null || true
  [ "$code" = 0 ] || { echo; echo "demo: failed (exit code $code); logs are in $demo, what was not shown in steps.log"; tail -n 20 "$demo/coordinator.log" 2>/dev/null || true; }
}
trap cleanup EXIT
start_coordinator() {
  show "contrast dev guest --pod coordinator deployment/ -- contrast-coordinator --ledger ledger &"
  contrast dev guest --pod coordinator deployment/ -- contrast-coordinator --ledger ledger >>coordinator.log 2>&1 &
  guest=$!
  wait_for 20 curl --silent --fail http://127.0.0.1:"${CONTRAST_PROBE_PORT:-9102}"/probe/startup
}
openssl_check() {
  show "openssl s_client -showcerts -connect 127.0.0.1:8443 -servername web </dev/null | sed -n '/BEGIN/,/END/p' > certChain.pem"
  openssl s_client -showcerts -connect 127.0.0.1:8443 -servername web </dev/null 2>/dev/null | sed -n '/BEGIN/,/END/p' >certChain.pem
  show "awk '/BEGIN CERT/ {n++} {print > (\"cert.\" n \".pem\")}' certChain.pem"
  awk '/BEGIN CERT/ {n++} {print > ("cert." n ".pem")}' certChain.pem
  run openssl verify -verbose -trusted verify/mesh-root.pem -- cert.1.pem
}
web() { curl --silent --show-error --cacert ./verify/mesh-root.pem --resolve web:8443:127.0.0.1 "$@"; }

rm -rf "$demo"; mkdir -p "$demo"
cp -r examples/emojivoto/. "$demo"; cd "$demo"
simulated=(--allow-simulated)
values=(--reference-values .contrast-dev/reference-values.json)

say "0. A simulated processor vendor for this workspace"
run contrast dev init
run python build_images.py

say "1. The owner prepares YAML: policies, manifest, keys"
cp -r deployment deployment.before
run contrast generate deployment/
show "diff -r deployment.before deployment"; diff -r deployment.before deployment | cut -c1-110 | grep '^[<>]' | head -n 5 || true; echo "…"
cp manifest.json manifest.first.json; cp -r deployment deployment.generated
brief 1 contrast generate deployment/
cmp manifest.json manifest.first.json && diff -r deployment.generated deployment && echo "(run again, it changed nothing)"

say "2. The Coordinator starts in its guest"
start_coordinator

say "3. The owner sets the manifest"
run contrast set -c "$coordinator" -m manifest.json "${simulated[@]}" deployment/

say "4. The pods start: each attests, and gets its certificate"
brief 1 contrast dev run --detach deployment/
run contrast dev status

say "5. A data owner verifies the whole deployment in one statement"
run contrast verify --full -c "$coordinator" "${simulated[@]}" "${values[@]}"
brief 4 contrast verify -c "$coordinator" -m manifest.json "${simulated[@]}"

say "6. From here on the data owner needs a CA certificate, curl and openssl"
show "curl --cacert ./verify/mesh-root.pem https://web:8443/ready"
wait_for 20 web --fail https://web:8443/ready
web --fail https://web:8443/ready; echo
openssl_check

say "7. Voting works, over mTLS between the services; without a certificate nobody is let in"
web --fail -X POST "https://web:8443/api/vote?choice=:doughnut:"; echo
web --fail https://web:8443/api/leaderboard | head -c 300; echo
voting=$(contrast dev status --json | awk -F'"' '/"subject":"voting-/ {for (i = 1; i < NF; i++) if ($i == "address") print $(i + 2)}' | head -n 1)
show "curl --cacert ./verify/mesh-root.pem https://voting:8443/ (no client certificate)"
if curl --silent --cacert ./verify/mesh-root.pem --resolve "voting:8443:${voting%%:*}" https://voting:8443/; then
  echo "demo: a client without a certificate was let in"; exit 1
fi
echo "(refused by voting, as it should be)"

say "8. An update: another image, the same owner; and everything that must be refused"
cp verify/mesh-root.pem mesh-root.old.pem
brief 1 python build_images.py --tag v2 --only web
new=$(python build_images.py --tag v2 --only web | awk '/emojivoto\/web:v2@/ {print $NF; exit}')
show "sed: image of web -> $new"
sed -i "s|contrast.invalid/emojivoto/web:v1@sha256:[0-9a-f]*|$new|" deployment/web.yml
brief 1 contrast generate deployment/
openssl ecparam -name secp384r1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt >stranger.pem; chmod 600 stranger.pem
refused 1 contrast set -c "$coordinator" -m manifest.json --workload-owner-key stranger.pem "${simulated[@]}" deployment/
brief 3 contrast set -c "$coordinator" -m manifest.json "${simulated[@]}" deployment/
refused 1 contrast verify -c "$coordinator" -m manifest.first.json "${simulated[@]}"
brief 4 contrast verify -c "$coordinator" -m manifest.json "${simulated[@]}"
show "openssl verify -trusted verify/mesh-root.pem -- cert.1.pem   # the leaf of the old manifest"
if openssl verify -trusted verify/mesh-root.pem -- cert.1.pem; then
  echo "demo: a leaf of the old manifest still verifies"; exit 1
fi
brief 1 contrast dev stop
brief 1 contrast dev run --detach deployment/
wait_for 20 web --fail https://web:8443/ready
openssl_check

say "9. The Coordinator is killed; it replays its ledger and waits for its recovery"
show "kill -9 \$(pgrep contrast-coordinator)"
pid=$(awk -F'[:,}]' '{for (i = 1; i < NF; i++) if ($i ~ /"pid"/) print $(i + 1) + 0}' .contrast-dev/run/coordinator.json | head -n 1)
cp verify/coordinator-root.pem coordinator-root.before.pem
kill -9 "$pid"; wait "$guest" || true; guest=
start_coordinator
refused 1 contrast verify -c "$coordinator" "${simulated[@]}" "${values[@]}"
brief 3 contrast recover -c "$coordinator" -m manifest.json "${simulated[@]}"
brief 7 contrast verify --full -c "$coordinator" -m manifest.json "${simulated[@]}"
cmp verify/coordinator-root.pem coordinator-root.before.pem && echo "(same root CA as before)"

say "10. The ledger, for people"
brief 10 contrast audit verify/ledger -m manifest.json "${simulated[@]}" --html audit.html
brief 1 contrast ledger verify verify/ledger "${simulated[@]}" "${values[@]}"
brief 8 contrast ledger show verify/ledger
brief 8 contrast ledger replay verify/ledger --at 3

say "11. The last manifest"
brief 1 contrast generate --disable-updates deployment/
brief 3 contrast set -c "$coordinator" -m manifest.json "${simulated[@]}" deployment/
echo >>manifest.json
refused 1 contrast set -c "$coordinator" -m manifest.json "${simulated[@]}" deployment/

printf '\nThe story took %d s.\n' "$((SECONDS - began))"
echo "demo: ok"
