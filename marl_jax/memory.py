"""What a seed keeps in memory, by what it is for, before anything is computed; and what a compiled program needs."""

import re
from typing import Any

import jax
from jax.sharding import Mesh

from marl_jax.training import Trainer

# The first pattern found in a leaf's path decides.
KINDS = {
    "replay": r"^\.replay",
    "optimisers": r"optimizer",
    "networks": r"params|target",
    "tables and counts": "",
}


def kept(trainer: Trainer) -> dict[str, int]:
    """Bytes that each seed keeps from one iteration to the next, by kind; kinds of which it has nothing are left out.

    What a program needs on its way comes on top; the compiler says it, once the program is compiled.
    """
    found = dict.fromkeys(KINDS, 0)
    for path, x in jax.tree_util.tree_leaves_with_path(trainer.abstract_state()):
        name = jax.tree_util.keystr(path)
        kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))
        found[kind] += x.size * x.dtype.itemsize // trainer.num_rows
    return {kind: size for kind, size in found.items() if size}


def described(sizes: dict[str, int]) -> str:
    """Their sum and each of them, in megabytes."""
    each = ", ".join(f"{kind} {size / 1e6:.3g}" for kind, size in sizes.items())
    return f"{sum(sizes.values()) / 1e6:.3g} MB ({each})"


def program_size(compiled: Any, mesh: Mesh) -> int:
    """Bytes that a compiled program needs on all devices: what it is given, what it makes of it elsewhere, and on the
    way. 0 where the backend does not say."""
    use = compiled.memory_analysis()
    if use is None:
        return 0
    made: int = use.output_size_in_bytes - use.alias_size_in_bytes
    # It says for one device.
    return mesh.size * int(use.argument_size_in_bytes + made + use.temp_size_in_bytes)
