"""Whether a change of code changed a number: what methods measure in their first chunks, before it and after it.

`python benchmarks/first_chunks.py --out before.json` on one commit, then `--against before.json` on the other, on the
same machine: every value must be the same, bit for bit. Values that only one of them has are named, and do not count.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import command
from marl_jax import ConfigurationError, methods
from marl_jax.loading import make_trainer
from marl_jax.settings import make_settings

# Small, and with every network that a method has.
OPTIONS: dict[str, Any] = {
    "num_envs": 4,
    "update_interval": 16,
    "minibatches": 2,
    "hidden_size": 8,
    "critic_hidden": (8,),
    "epsilon_anneal_steps": 200,
    "batch_size": 4,
    "replay_capacity": 400,
    "target_update_interval": 8,
    "critic_size": 8,
    "classifier_batch": 4,
    "autoencoder_hidden": (4, 2, 4),
    "matching_steps": 4,
    "table_bits": 10,
    "joint_table_bits": 11,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "eoi released": (
        "eoi_released",
        {
            "intrinsic_gamma": 0.99,
            "positive_weight": 0.1,
            "classifier_lr": 1e-3,
            "intrinsic_lr": 1e-3,
        },
    ),
    "eoi shared": ("eoi", {"sharing": "shared", "observe_identity": True, "classifier": "gru"}),
    "roma all inputs": ("roma", {"role_input": "all", "greedy_roles": "mean", "softplus": True}),
    "qmix in any order": ("qmix", {"shuffle_agents": True, "target_update": "soft"}),
    "cia as its authors": ("cia", {"credit": "authors", "td_lambda": 0.5}),
    "liir all": ("liir", {"meta_gradient": "all"}),
}


@dataclasses.dataclass
class Arguments:
    out: Path | None = None
    """File to write the values to."""
    against: Path | None = None
    """File of values to compare with."""
    methods: tuple[str, ...] = ()
    """Methods, or variants named here; all if none is named."""
    env: str = "pac_men"
    """Task."""
    time_limit: int = 16
    """Its time limit."""
    chunks: int = 2
    """Chunks of two iterations."""


def measured(method: str, options: dict[str, Any], args: Arguments) -> dict[str, list[str]]:
    """By name, the values of all chunks as hexadecimal text."""
    known = {field.name for field in dataclasses.fields(methods.recipe(method).Config)}
    small = {name: value for name, value in OPTIONS.items() if name in known}
    sections = {
        "training": {"eval_interval": 2 * small["num_envs"] * args.time_limit, "eval_episodes": 4},
        "method": {**small, **options},
        "env": {"time_limit": args.time_limit},
    }
    trainer = make_trainer(make_settings(method, args.env, 1, 0, sections, task_defaults=False))
    state, values = trainer.init(), {}
    for chunk in range(args.chunks):
        state, metrics = trainer.train_chunk(state, trainer.everyone)
        for group in (metrics.training, metrics.evaluation):
            for name, x in group.items():
                flat = np.asarray(x, np.float64).ravel()
                values[f"{chunk} {name}"] = [value.hex() for value in flat.tolist()]
    return values


def main() -> int:
    """Writes or compares; returns the exit status."""
    args = command.parse(Arguments, "What methods measure in their first chunks.")
    known = [name for name in methods.names() if methods.recipe(name).plays(continuous=False)]
    cases = {**{name: (name, {}) for name in known}, **VARIANTS}
    for name in args.methods:
        if name not in cases:
            raise ConfigurationError(f"--methods has {name}; choose from: {', '.join(cases)}.")
    before = json.loads(args.against.read_text()) if args.against else {}
    found, different = {}, 0
    for name in args.methods or cases:
        found[name] = values = measured(*cases[name], args)
        jax.clear_caches()
        said = f"{len(values)} values"
        if args.against:
            old = before.get(name, {})
            other = sorted({k.split()[1] for k in values.keys() & old if values[k] != old[k]})
            alone = sorted({k.split()[1] for k in values.keys() ^ old.keys()})
            different += bool(other)
            said = f"differs in {', '.join(other)}" if other else "the same"
            said += f"; only on one side: {', '.join(alone)}" * bool(alone)
        print(f"{name}: {said}", flush=True)
        if args.out:
            args.out.write_text(json.dumps(found))
    return 1 if different else 0


if __name__ == "__main__":
    command.run(main)
