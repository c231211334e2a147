#!/usr/bin/env bash
# The whole of MLflow in a virtual environment of its own, of the version whose client the tests have; nothing runs:
# mlflow.sh start | stop | status | check
#
# Its server, its stores and its flavors need pandas, SQLAlchemy and more, which the studio's own environment has no use for.
. "$(dirname "$0")/lib.sh"
LOCK=$SELF/../../requirements-dev.lock
MLFLOW_VERSION=${MLFLOW_VERSION:-$(sed -n 's/^mlflow-skinny==\([0-9.]*\).*/\1/p' "$LOCK")}

start() {
  lock
  venv mlflow "mlflow==$MLFLOW_VERSION"
  emit MLFLOW_PYTHON "$VENV/bin/python" MLFLOW_VERSION "$MLFLOW_VERSION"
  publish
}

status() { [ -e "$STATE/env" ] && show || down; }

# Its SQLite store takes a run.
check() {
  status >/dev/null
  scratch
  cat >"$DIR/run.py" <<'PY'
import mlflow

mlflow.set_tracking_uri("sqlite:///check.db")
with mlflow.start_run():
    mlflow.log_metric("m", 1.0)
assert len(mlflow.search_runs()) == 1
PY
  (cd "$DIR" && "$INFRA_CACHE/venv-mlflow/bin/python" run.py) 2>"$DIR/err" || { tail -3 "$DIR/err" >&2; die "mlflow failed"; }
  note "check passed"
}

case ${1:-} in start) start ;; stop) rm -f "$STATE/env" ;; status) status ;; check) check ;; *) usage ;; esac
