#!/usr/bin/env bash
# Open MPI's mpirun from Debian; nothing runs: mpi.sh start | stop | status | check
. "$(dirname "$0")/lib.sh"

start() {
  lock
  need mpirun=openmpi-bin
  emit MPIRUN "$(command -v mpirun)"
  publish
}

status() { command -v mpirun >/dev/null && [ -e "$STATE/env" ] && show || down; }

# Two ranks say who they are.
check() {
  local out
  out=$(OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -np 2 --oversubscribe sh -c 'echo "$OMPI_COMM_WORLD_RANK/$OMPI_COMM_WORLD_SIZE"' | sort | tr '\n' ' ')
  [ "$out" = "0/2 1/2 " ] || die "two ranks said: $out"
  note "check passed"
}

case ${1:-} in start) start ;; stop) rm -f "$STATE/env" ;; status) status ;; check) check ;; *) usage ;; esac
