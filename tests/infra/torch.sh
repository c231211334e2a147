#!/usr/bin/env bash
# PyTorch in a virtual environment of its own; nothing runs: torch.sh start | stop | status | check
#
# A CPU build where pip is set up to find one, else several GB. Debian's python3-torch of bookworm is much smaller, but its
# torchrun does not start under the Python that comes with it.
. "$(dirname "$0")/lib.sh"
TORCH_VERSION=${TORCH_VERSION:-2.13.0}

start() {
  lock
  venv torch "torch==$TORCH_VERSION"
  emit TORCH_PYTHON "$VENV/bin/python" TORCH_VERSION "$TORCH_VERSION"
  publish
}

status() { [ -e "$STATE/env" ] && show || down; }

# Two processes of torchrun add up their ranks over gloo.
check() {
  status >/dev/null
  scratch
  cat >"$DIR/sum.py" <<'PY'
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
assert total.item() == 3.0, total
dist.destroy_process_group()
PY
  "$INFRA_CACHE/venv-torch/bin/python" -m torch.distributed.run --standalone --nproc_per_node 2 "$DIR/sum.py" 2>"$DIR/err" ||
    { tail -3 "$DIR/err" >&2; die "torchrun failed"; }
  note "check passed"
}

case ${1:-} in start) start ;; stop) rm -f "$STATE/env" ;; status) status ;; check) check ;; *) usage ;; esac
