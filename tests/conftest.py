"""Shared by all tests: quick compilation, and a cache of compiled programs that outlives a session."""

import gc
import os
from pathlib import Path

# Before JAX starts, here and in the programs that tests start.
_CACHE = Path(__file__).parent.parent / ".pytest_cache" / "compiled"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
# Most of the time goes into compiling what then runs for a moment: half of it with full optimisation.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# JAX keeps a million objects alive, and walking through them again and again took a tenth of the tests' time.
gc.set_threshold(200_000, 50, 100)

import envs  # noqa: F401
