"""Training on battles beside JaxMARL's MAPPO and QMIX: environment steps per second, in turn in one run.

`python benchmarks/battles.py --jaxmarl PATH` takes a checkout of github.com/FLAIROx/JaxMARL; without it only our own
numbers are printed. `--python` is the interpreter that can run its baselines (`pip install "jaxmarl[algs]"`).

Sizes are JaxMARL's, but for QMIX's layers, and equal: layers, environments, environment steps of an iteration, gradient
steps, and the environment steps that one of them learns from. JaxMARL plays fixed numbers of steps and starts anew
where a battle ends; here iterations are whole battles, as many as make as many steps, by the mean length of battles
with random actions. Only steps of battles count, on both sides, and only iterations that learn: what comes before a
replay holds enough is left out.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from sides import Checkout, Ours, check_checkout, in_turn, jaxmarl

import envs
from experiments import command

# Theirs, but for QMIX's layers, which have 512, 64 and 256 units.
PEER = {
    "mappo": {"NUM_ENVS": 128, "NUM_STEPS": 128},
    "qmix": {
        "NUM_ENVS": 16,
        "NUM_STEPS": 128,
        "NUM_EPOCHS": 8,
        "BUFFER_SIZE": 1000,
        "BUFFER_BATCH_SIZE": 32,
        "HIDDEN_SIZE": 64,
        "MIXER_EMBEDDING_DIM": 32,
        "MIXER_HYPERNET_HIDDEN_DIM": 64,
    },
}


@dataclasses.dataclass
class Arguments:
    jaxmarl: Path | None = None
    """A checkout of JaxMARL; without one, no ratio."""
    python: Path = Path(sys.executable)
    """Interpreter that runs it."""
    methods: tuple[str, ...] = ("mappo", "qmix")
    """Which of mappo and qmix."""
    scenarios: tuple[str, ...] = ("3m", "2s3z")
    """Scenarios of SMAX."""
    seeds: int = 2
    """Seeds trained at once."""
    iterations: int = 4
    """Iterations of one measurement."""
    rounds: int = 3
    """Measurements of each, in turn; medians count."""


def random_length(scenario: str) -> float:
    """Mean steps of 256 battles with random actions."""
    env = envs.make(f"smax/{scenario}")

    def play(key: jax.Array) -> jax.Array:
        reset_key, act_key = jax.random.split(key)

        def step(carry: Any, key: jax.Array) -> Any:
            state, mask, going, length = carry
            lots = jax.random.uniform(key, mask.shape)
            state, timestep = env.step(state, jnp.argmax(jnp.where(mask, lots, -1.0), axis=-1))
            going, length = going & ~timestep.last(), length + going
            return (state, timestep.observation.action_mask, going, length), None

        state, first = env.reset(reset_key)
        carry = (state, first.observation.action_mask, jnp.array(True), jnp.zeros((), jnp.int32))
        keys = jax.random.split(act_key, env.time_limit)
        return jax.lax.scan(step, carry, keys)[0][-1]

    return float(jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 256)).mean())


def options_of(method: str, scenario: str, length: float) -> tuple[str | None, dict[str, Any]]:
    """A preset, and what differs from it, for iterations as large as the peer's."""
    peer = PEER[method]
    num_envs, limit = peer["NUM_ENVS"], envs.make(f"smax/{scenario}").time_limit
    battles = max(1, round(peer["NUM_STEPS"] / length))
    played = {"num_envs": num_envs, "episodes_per_env": battles}
    if method == "mappo":
        return "jaxmarl", played
    return "battles", {
        **played,
        "update_interval": num_envs * battles * limit // peer["NUM_EPOCHS"],
        "batch_size": round(peer["BUFFER_BATCH_SIZE"] * peer["NUM_STEPS"] / length),
        "replay_capacity": peer["BUFFER_SIZE"] * peer["NUM_STEPS"],
        "hidden_size": 64,
        "mixer_embed": 32,
        "hypernet_size": 64,
    }


def main() -> int:
    args = command.parse(Arguments, "Training on battles, beside JaxMARL's.")
    command.refuse_unknown("--methods", args.methods, PEER)
    check_checkout(args.jaxmarl)
    print(f"{args.seeds} seeds, {len(jax.devices())} x {jax.devices()[0].device_kind}")
    heads = ("method", "scenario", "ours, s to compile", "env steps/s", "JaxMARL, s", "env steps/s")
    print("".join(f"{head:>20}" for head in (*heads, "ratio")))
    for method in args.methods:
        for scenario in args.scenarios:
            preset, options = options_of(method, scenario, random_length(scenario))
            ours = Ours(method, f"smax/{scenario}", args.seeds, args.iterations, options, preset)
            cells = [method, scenario, f"{ours.compiled:.1f}"]
            theirs = None
            if args.jaxmarl is not None:
                work = (method, f"smax/{scenario}", args.seeds, args.iterations, PEER[method])
                theirs = jaxmarl(Checkout(args.jaxmarl, args.python), *work)
            found = in_turn(ours, theirs, args.rounds)
            cells += [f"{found.ours:,.0f}", "-", "-", "-"]
            if found.peer is not None:
                cells[-3:] = [
                    f"{found.compiled:.1f}",
                    f"{found.peer:,.0f}",
                    f"{found.ratio:.2f}",
                ]
            print("".join(f"{cell:>20}" for cell in cells), flush=True)
    return 0


if __name__ == "__main__":
    command.run(main)
