"""Shared by all tests: tiny runs, and a cache of compiled programs that outlives a session."""

import os
from pathlib import Path

# Before JAX starts, here and in the programs that tests start.
_CACHE = Path(__file__).parent.parent / ".pytest_cache" / "compiled"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import envs  # noqa: F401
