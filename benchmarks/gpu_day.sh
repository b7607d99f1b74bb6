#!/usr/bin/env bash
# What a GPU has to show first, in one command of under ten minutes: smoke tests, speed, training. JSON after each step.
#
#   benchmarks/gpu_day.sh OUT          on a machine with a GPU: Python 3.12, PyTorch for CUDA; nothing else is needed
#   benchmarks/gpu_day.sh OUT --dry    the same steps, small, on a CPU
#
# WHEELS=DIR   install wheels from DIR first, without network and without their dependencies
# DATA=DIR     pictures of `python -m benchmarks.small_pictures`; phantoms are made where it is not given
# PYTHON=...   the interpreter (python3);  BUDGET=...   seconds in all (570)
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
if [ -n "${WHEELS:-}" ]; then
    site="$(mktemp -d)"
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg
exec "$python" -m benchmarks.gpu_day "$@"
