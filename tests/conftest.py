"""Shared by all tests: quick compilation, and a cache of compiled programs that outlives a session."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Before JAX starts, here and in the programs that tests start.
_CACHE = Path(__file__).parent.parent / ".pytest_cache" / "compiled"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
# Most of the time goes into compiling what then runs for a moment: half of it with full optimisation.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# What is left takes half as long without XLA's newer way of writing fused loops, and without dividing a program among
# threads, of which two processes have none to spare. The older way is gone since jaxlib 0.12, where XLA ends a process
# that asks for it.
_QUICKER = ["--xla_cpu_parallel_codegen_split_count=1"]
if [int(number) for number in version("jaxlib").split(".")[:2]] < [0, 12]:
    _QUICKER.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*_QUICKER, os.environ.get("XLA_FLAGS", "")]).strip()
# JAX keeps a million objects alive, and walking through them again and again took a tenth of the tests' time.
gc.set_threshold(200_000, 50, 100)

import envs  # noqa: F401
