"""How many of SMAX's battles could be won: by a script, and by looking one action ahead in a simulator.

`python benchmarks/battle_limits.py --scenario 3m --battles 96`. The script walks towards the nearest enemy and shoots
at the weakest in range. The planner goes through the team, agent after agent, and gives each the action after which
the script earns most, on average over `--rollouts` battles played on from there with other random numbers. It knows
the whole state, which agents of a team do not: what it wins is a level that the task's rules allow, not one that must
be reached from observations.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import envs
from envs.bridges.jaxmarl import SMAXState
from experiments import command
from marl_jax import ConfigurationError

# North, east, south and west, as SMAX's first actions go; then stop, then an attack of each enemy.
DIRECTIONS = jnp.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
STOP = 4
FAR = 1e9


@dataclasses.dataclass
class Arguments:
    scenario: str = "3m"
    """Scenario of SMAX."""
    battles: int = 96
    """Battles of each."""
    rollouts: int = 4
    """Battles played on for each action that the planner looks at."""
    horizon: int = 25
    """Steps of those."""
    when: str = "always"
    """When the planner plays in place of the script: always; contact: while an ally can attack; before: while not."""


def focus_fire(env: Any, state: SMAXState, legal: Array) -> Int[Array, " N"]:
    """Shoots at the weakest enemy in range, the nearest of those; else walks to the nearest enemy alive."""
    battle, n = state.inner.state, env.num_agents
    position, health, alive = battle.unit_positions, battle.unit_health, battle.unit_alive
    offset = position[None, n:] - position[:n, None]
    distance = jnp.linalg.norm(offset, axis=-1)
    in_range = legal[:, STOP + 1 :]
    target = jnp.argmin(jnp.where(in_range, health[n:] + 0.01 * distance, FAR), axis=1)
    nearest = jnp.argmin(jnp.where(alive[n:], distance, FAR), axis=1)
    way = jnp.take_along_axis(offset, nearest[:, None, None], axis=1)[:, 0]
    walk = jnp.argmax(way @ DIRECTIONS.T, axis=1)
    action = jnp.where(in_range.any(axis=1), STOP + 1 + target, walk)
    return jnp.where(alive[:n], action, STOP).astype(jnp.int32)


def earned(
    env: Any, state: SMAXState, first: Int[Array, " N"], key: jax.Array, horizon: int
) -> Float[Array, ""]:
    """What the script earns after `first`, with random numbers of its own."""
    state, timestep = env.step(dataclasses.replace(state, key=key), first)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        state, timestep, total, over = carry
        action = focus_fire(env, state, timestep.observation.action_mask)
        state, timestep = env.step(state, action)
        total += jnp.where(over, 0.0, timestep.reward.mean())
        return (state, timestep, total, over | timestep.last()), None

    start = (state, timestep, timestep.reward.mean(), timestep.last())
    return jax.lax.scan(step, start, length=horizon)[0][2]


def planned(
    env: Any, state: SMAXState, legal: Array, key: jax.Array, args: Arguments
) -> Int[Array, " N"]:
    """The script's actions, bettered agent after agent."""
    n, a = env.num_agents, env.num_actions
    keys = jax.random.split(key, args.rollouts)

    def better(action: Int[Array, " N"], agent: Array) -> tuple[Int[Array, " N"], None]:
        tries = jnp.broadcast_to(action, (a, n)).at[:, agent].set(jnp.arange(a))
        play = functools.partial(earned, env, state, horizon=args.horizon)
        value = jax.vmap(lambda one: jax.vmap(lambda k: play(one, k))(keys).mean())(tries)
        # Of equal actions, the script's.
        value = value + 1e-3 * (jnp.arange(a) == action[agent])
        best = jnp.argmax(jnp.where(legal[agent], value, -FAR))
        return action.at[agent].set(best.astype(jnp.int32)), None

    script = focus_fire(env, state, legal)
    return jax.lax.scan(better, script, jnp.arange(n))[0]


def share_won(env: Any, args: Arguments, plans: bool) -> tuple[float, float]:
    """Of so many battles; and the share of the planner's decisions that are not the script's."""

    @jax.jit
    def step(carry: Any, key: jax.Array) -> Any:
        state, timestep, won, over, decisions = carry
        legal, alive = timestep.observation.action_mask, timestep.observation.alive
        action = jax.vmap(functools.partial(focus_fire, env))(state, legal)
        if plans:
            keys = jax.random.split(key, args.battles)
            plan = jax.vmap(functools.partial(planned, env, args=args))(state, legal, keys)
            contact = legal[..., STOP + 1 :].any(axis=(1, 2))
            turns = {"always": contact | True, "contact": contact, "before": ~contact}
            decides = turns[args.when][:, None] & alive & ~over[:, None]
            decisions += jnp.array([(decides & (plan != action)).sum(), decides.sum()])
            action = jnp.where(decides, plan, action)
        state, timestep = jax.vmap(env.step)(state, action)
        won = jnp.where(over, won, timestep.extras["won"])
        return state, timestep, won, over | timestep.last(), decisions

    state, timestep = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), args.battles))
    won, over = jnp.zeros(args.battles), jnp.zeros(args.battles, bool)
    carry: Any = (state, timestep, won, over, jnp.zeros(2))
    for time in range(env.time_limit):
        carry = step(carry, jax.random.fold_in(jax.random.key(1), time))
        if bool(carry[3].all()):
            break
    others, decisions = carry[4].tolist()
    return float(carry[2].mean()), others / max(decisions, 1.0)


def main() -> int:
    """Prints both shares; returns the exit status."""
    args = command.parse(Arguments, "How many of SMAX's battles could be won.")
    if args.when not in ("always", "contact", "before"):
        raise ConfigurationError(
            f"--when is {args.when}; it must be one of always, contact, before."
        )
    env = envs.make(f"smax/{args.scenario}")
    print(
        f"{args.scenario}: the script wins {share_won(env, args, plans=False)[0]:.1%}", flush=True
    )
    won, others = share_won(env, args, plans=True)
    print(
        f"{args.scenario}: the planner wins {won:.1%} ({args.when}); {others:.1%} of its decisions are not the script's"
    )
    return 0


if __name__ == "__main__":
    command.run(main)
