#!/usr/bin/env bash
# An image registry on loopback, open on one port and behind a password on another:
# registry.sh start | stop | status | check
#
# Both ports serve the same images; Docker engines speak plain HTTP with loopback, so nothing has to be configured.
# Nothing is in it at first: `docker push 127.0.0.1:5070/name:tag` (to the private one after `docker login`).
. "$(dirname "$0")/lib.sh"
REGISTRY_PORT=${REGISTRY_PORT:-5070} REGISTRY_PRIVATE_PORT=${REGISTRY_PRIVATE_PORT:-5071}
REGISTRY_USER=${REGISTRY_USER:-puller} REGISTRY_PASSWORD=${REGISTRY_PASSWORD:-open-sesame-5071}

config() { # config PORT [AUTH...]
  printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$STATE" "$1"
  [ $# = 1 ] || printf 'auth: {htpasswd: {realm: studio, path: %s/htpasswd}}\n' "$STATE"
}
answers() { listening "$REGISTRY_PORT" && listening "$REGISTRY_PRIVATE_PORT"; }

start() {
  local name port
  lock
  need docker-registry=docker-registry curl=curl
  install -d "$STATE/data"
  # The registry takes bcrypt alone; perl's crypt is the C library's, which knows it.
  # shellcheck disable=SC2016
  perl -e 'print "$ARGV[0]:", crypt($ARGV[1], q($2y$05$) . q(abcdefghijklmnopqrstuu)), "\n"' "$REGISTRY_USER" "$REGISTRY_PASSWORD" >"$STATE/htpasswd"
  config "$REGISTRY_PORT" >"$STATE/open.yml"
  config "$REGISTRY_PRIVATE_PORT" auth >"$STATE/private.yml"
  for name in open private; do
    port=$REGISTRY_PORT; [ $name = open ] || port=$REGISTRY_PRIVATE_PORT
    alive $name && continue
    vacant $name "$port"
    daemon $name env OTEL_TRACES_EXPORTER=none "$(command -v docker-registry)" serve "$STATE/$name.yml"
    wait_for 20 $name listening "$port"
  done
  emit REGISTRY "127.0.0.1:$REGISTRY_PORT" REGISTRY_PRIVATE "127.0.0.1:$REGISTRY_PRIVATE_PORT" \
       REGISTRY_USER "$REGISTRY_USER" REGISTRY_PASSWORD "$REGISTRY_PASSWORD"
  publish
}

stop() {
  lock
  end open; end private
  rm -rf "$STATE/data" "$STATE/env"
}
status() { alive open && alive private && answers && show || down; }

check() {
  status >/dev/null
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$REGISTRY_PORT/v2/")" = 200 ] || die "the open port refuses"
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$REGISTRY_PRIVATE_PORT/v2/")" = 401 ] || die "the private port asks for no password"
  [ "$(curl -s -o /dev/null -w '%{http_code}' -u "$REGISTRY_USER:$REGISTRY_PASSWORD" "http://127.0.0.1:$REGISTRY_PRIVATE_PORT/v2/")" = 200 ] || die "the password is not taken"
  note "check passed"
}

case ${1:-} in start) start ;; stop) stop ;; status) status ;; check) check ;; *) usage ;; esac
