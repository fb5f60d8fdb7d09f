#!/usr/bin/env bash
# What a GPU or TPU does, in under 10 minutes: compile time, environment steps a second with 1, 16 and 256 seeds, memory
# and the share of time that the device waits, for QMIX, CIA, MAPPO, LIIR and EOI. With JAXMARL, a checkout of JaxMARL, and
# JAXMARL_PYTHON, an interpreter that can run its baselines, its QMIX is measured beside ours.
# Usage: bash benchmarks/accelerator.sh [--small | OPTION of benchmarks/accelerator.py]...
set -euo pipefail
cd "$(dirname "$0")/.."
export XLA_PYTHON_CLIENT_PREALLOCATE=false
python benchmarks/accelerator.py "$@"
if [ -n "${JAXMARL:-}" ]; then
    python benchmarks/peers.py --jaxmarl "$JAXMARL" --python "${JAXMARL_PYTHON:-python}" --only qmix-spread-16 --rounds 2
fi
