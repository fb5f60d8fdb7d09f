#!/usr/bin/env bash
# What a GPU or TPU does, in under 10 minutes: compile time, environment steps a second with 1, 16 and 256 seeds, memory
# and the share of time that the device waits, for QMIX, CIA, MAPPO, LIIR and EOI. With JAXMARL, a checkout of JaxMARL, and
# JAXMARL_PYTHON, an interpreter that can run its baselines, its QMIX with 1, 16 and 256 seeds and its MAPPO are measured
# beside ours, in what is left of the time.
# Usage: bash benchmarks/accelerator.sh [--small | OPTION of benchmarks/accelerator.py]...
set -euo pipefail
cd "$(dirname "$0")/.."
export XLA_PYTHON_CLIENT_PREALLOCATE=false
if [ -z "${JAXMARL:-}" ]; then
    python benchmarks/accelerator.py "$@"
    exit
fi
python benchmarks/accelerator.py --seconds 200 "$@"
peer=(python benchmarks/peers.py --jaxmarl "$JAXMARL" --python "${JAXMARL_PYTHON:-python}" --rounds 2)
case " $* " in
    *" --small "*) peer+=(--small --only qmix-spread-1) ;;
    *) peer+=(--only qmix-spread-1 qmix-spread-16 qmix-spread-256 mappo-3m) ;;
esac
# A limit of 0 would be none.
left=$((590 - SECONDS))
timeout $((left > 1 ? left : 1)) "${peer[@]}" || { [ $? = 124 ] && echo "no time for what is missing above"; }
