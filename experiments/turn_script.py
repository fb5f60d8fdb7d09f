"""Plays Turn with a script whose agents see no more than learners do: `experiments/turn_script.py --episodes 1000`.

An agent is given its view at each step, and knows which agent it is and what it did itself. It is not given
positions, borders, rewards, or whose turn it is. It knows the rules, and how its partner plays.

Each agent weighs all that may be the case: (which agent is free, its own cell, the apple's cell). At each step

1. it moves these weights on by the rules. If it is free, its move or meal has happened. If it is trapped, it has not,
   and its partner may have eaten: certainly not away from the apple, likely if the partner stands on it in view, else
   with a chance that depends on how long the partner's turn has lasted (`_EATS`, as this team was seen to play);
2. it drops what its view of the apple contradicts. So an apple that comes or goes in a waiting agent's view says that
   its turn has come, and one that shifts as the agent moved says that it is free;
3. it weighs what it sees of its partner in the same way. A free agent never rests, so a partner that stands still in
   view is trapped, and one that walks is free;
4. it stays, unless it is free with a probability above `_CONFIDENCE`. Then it eats the apple or walks to it. If the
   apple is out of view, it takes the first step of the walk of `_WALK_LENGTH` moves on which it expects to eat soonest
   if it is free. So an agent that waited long tries, at a cost of 1 a move if it is wrong.

The partner's own cell is not among the weights, and the walks are short: the script is good, not optimal.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from envs.turn import State, Turn
from envs.turn.env import EAT, STARTS, STAY
from envs.turn.state import SIZE
from experiments import command
from marl_jax import ConfigurationError

# Chosen by hand on 1,000 episodes; the return hardly depends on them.
_CONFIDENCE = 0.6
_WALK_LENGTH = 3
# Steps that a walk's end costs on top of the way to the apple, if the apple is still out of view.
_UNSEEN = 2
# The probability that the free partner eats in its 1st, 2nd, ... step (the last number: in any later one), if neither
# it nor the apple is in view; measured.
_EATS = jnp.array([0.05, 0.17, 0.17, 0.11, 0.15, 0.20, 0.26, 0.30])
_EATS_IN_VIEW = 0.98  # if it stands on the apple
_RESTS = 0.02  # if it is free, in view, and not on the apple
_COMES = 0.03  # that a free partner walks into view
_FOUND = 0.03  # that the partner is in a given one of the cells that come into view

# Entries of a view: 0 to 8 are offsets as `Turn` orders them, 9 is "out of view".
_OUT = 9
_OFFSETS = np.array(list(itertools.product((0, 1, -1), repeat=2)))
_MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (0, 0)])  # of each action
_CELLS = np.array(list(itertools.product(range(SIZE), repeat=2)))
_NUM_CELLS = len(_CELLS)


def _entry(offset: NDArray[np.integer]) -> NDArray[np.integer]:
    """The entry of an offset, [..., 2] to [...]."""
    near = (abs(offset) <= 1).all(axis=-1)
    return np.where(near, 3 * (offset[..., 0] % 3) + offset[..., 1] % 3, _OUT)


# [cell, apple]: the entry that shows the apple, and the steps to eat it.
_ENTRY = _entry(_CELLS - _CELLS[:, None])
_STEPS = abs(_CELLS - _CELLS[:, None]).sum(axis=-1) + 1
# [cell, action]: where a free agent goes, and whether it bumps into the border.
_WANTED = _CELLS[:, None] + _MOVES
_BUMPS = ((_WANTED < 0) | (_WANTED >= SIZE)).any(axis=-1)
_NEXT = np.where(_BUMPS, np.arange(_NUM_CELLS)[:, None], _WANTED @ (SIZE, 1))
# [action, cell]: where a free agent that moved comes from, and whether there is such a cell.
_ORIGIN = (_CELLS - _MOVES[:, None]) @ (SIZE, 1)
_CAME = np.array([np.isin(np.arange(_NUM_CELLS), _NEXT[~_BUMPS[:, a], a]) for a in range(6)])
# [entry]: the action that leads to the apple; STAY stands for "search".
_TOWARDS = np.array([EAT, 3, 2, 1, 1, 1, 0, 0, 0, STAY])


def _partner_tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of the entry that shows the partner.

    Returns:
        [6, 10, 10] (own action, entry before, entry after) if the agent has moved, [10, 10] if its free partner has.
    """
    own, others = np.zeros((6, 10, 10)), np.zeros((10, 10))
    for action, move in enumerate(_MOVES):
        own[action, np.arange(9), _entry(_OFFSETS - move)] = 1
        own[action, _OUT, :9] = _FOUND * (_entry(_OFFSETS + move) == _OUT)
        own[action, _OUT, _OUT] = 1 - own[action, _OUT, :9].sum()
    for move in _MOVES[:4]:
        others[np.arange(9), _entry(_OFFSETS + move)] += (1 - _RESTS) / 4
    others[np.arange(9), np.arange(9)] = _RESTS
    others[_OUT, 1:9], others[_OUT, _OUT] = _COMES / 8, 1 - _COMES
    return own, others


def _walk_costs() -> NDArray[np.float64]:
    """What each walk costs a free agent that does not see the apple: steps until it eats, and bumps.

    Returns:
        [4**_WALK_LENGTH, cells, apples]; the walks are sorted by their first moves.
    """
    apples = np.arange(_NUM_CELLS)
    costs = []
    for walk in itertools.product(range(4), repeat=_WALK_LENGTH):
        cell = apples[:, None]
        cost = np.zeros(_ENTRY.shape)
        found = np.zeros(_ENTRY.shape, bool)
        for move in walk:
            cost += ~found * (1 + _BUMPS[cell, move])
            cell = _NEXT[cell, move]
            sees = ~found & (_ENTRY[cell, apples] != _OUT)
            cost += sees * _STEPS[cell, apples]
            found |= sees
        costs.append(cost + ~found * (_STEPS[cell, apples] + _UNSEEN))
    return np.array(costs)


_PARTNER_IF_I_MOVED, _PARTNER_IF_IT_MOVED = map(jnp.asarray, _partner_tables())
_WALK_COSTS = jnp.asarray(_walk_costs())


class Memory(NamedTuple):
    """What an agent remembers.

    Attributes:
        weights: [2, 25, 25], the probability that the agent is (0 trapped, 1 free), of its cell, of the apple's cell.
        waited: [] int32, steps since it ate, or since the start.
        partner: [] int32, the entry that showed the partner.
        apple: [] int32, the entry that showed the apple.
        action: [] int32, its last action; -1 before the first.
    """

    weights: jax.Array
    waited: jax.Array
    partner: jax.Array
    apple: jax.Array
    action: jax.Array


def start(agent: jax.Array) -> Memory:
    """The memory of agent 0 or 1, [] int32, at the start of an episode."""
    cell = jnp.where(agent == 0, *(SIZE * row + column for row, column in STARTS))
    free = jnp.arange(2) == 1 - agent
    own = jnp.arange(_NUM_CELLS) == cell
    weights = (free[:, None] & own)[..., None] * jnp.full(_NUM_CELLS, 1 / _NUM_CELLS)
    zero = jnp.int32(0)
    return Memory(weights, zero, zero + _OUT, zero + _OUT, zero - 1)


def act(memory: Memory, view: jax.Array) -> tuple[Memory, jax.Array]:
    """One agent's step.

    Args:
        memory: what it remembers.
        view: [18], its observation (`Turn`).

    Returns:
        The memory after it, and the action, [] int32.
    """
    halves = view.reshape(2, 9)
    partner, apple = jnp.where(halves.any(axis=1), halves.argmax(axis=1), _OUT)
    weights = jnp.where(memory.action < 0, memory.weights, _predict(memory, partner))
    consistent = (apple == _ENTRY).astype(weights.dtype)
    weights *= consistent
    # What was held impossible has happened (about once in 1,000 steps): begin again with all that explains the view.
    weights = jnp.where(weights.sum() > 1e-9, weights, jnp.stack([consistent, consistent]))
    weights /= weights.sum()

    costs = jnp.tensordot(_WALK_COSTS, weights[1], 2)
    search = costs.argmin() // 4 ** (_WALK_LENGTH - 1)
    wanted = jnp.where(apple == _OUT, search, jnp.asarray(_TOWARDS)[apple])
    action = jnp.where(weights[1].sum() > _CONFIDENCE, wanted, STAY).astype(jnp.int32)

    ate = (memory.action == EAT) & (apple != 0)
    waited = jnp.where(ate | (memory.action < 0), 0, memory.waited + 1)
    return Memory(weights, waited, partner, apple, action), action


def _predict(memory: Memory, partner: jax.Array) -> jax.Array:
    """The weights after the last action, given the entry that now shows the partner; unnormalised, [2, 25, 25]."""
    trapped, free = memory.weights
    before = memory.partner
    partner_stands = (partner == before).astype(free.dtype)
    eats = (memory.action == EAT) * jnp.eye(_NUM_CELLS) * free
    came = jnp.asarray(_CAME)[memory.action, :, None] & (memory.action < 4)
    moves = jnp.where(came, free[jnp.asarray(_ORIGIN)[memory.action]], 0)
    bumps = jnp.asarray(_BUMPS)[:, memory.action, None] * free
    rests = (free - eats) * (memory.action >= 4)
    in_view = before != _OUT
    chance = jnp.where(in_view, _EATS_IN_VIEW, _EATS[jnp.minimum(memory.waited, len(_EATS) - 1)])
    released = trapped * chance * (before == _ENTRY)
    return jnp.stack(
        [
            (trapped - released) * _PARTNER_IF_IT_MOVED[before, partner]
            + _new_apple(eats) * partner_stands,
            moves * _PARTNER_IF_I_MOVED[memory.action, before, partner]
            + (bumps + rests + _new_apple(released)) * partner_stands,
        ]
    )


def _new_apple(weights: jax.Array) -> jax.Array:
    """The weights, [cells, apples], after an apple was eaten and drawn anew."""
    return jnp.broadcast_to(weights.mean(axis=1, keepdims=True), weights.shape)


def returns(key: jax.Array, num_episodes: int) -> NDArray[np.float64]:
    """Plays episodes of `Turn` with its defaults.

    Args:
        key: random key.
        num_episodes: how many.

    Returns:
        [num_episodes], the team's returns.
    """
    env = Turn()

    def episode(key: jax.Array) -> jax.Array:
        state, first = env.reset(key)
        memories = jax.vmap(start)(jnp.arange(2))

        def step(
            carry: tuple[State, jax.Array, Memory], _: None
        ) -> tuple[tuple[State, jax.Array, Memory], jax.Array]:
            state, views, memories = carry
            memories, actions = jax.vmap(act)(memories, views)
            state, timestep = env.step(state, actions)
            return (state, timestep.observation.agents_view, memories), timestep.reward.mean()

        carry = (state, first.observation.agents_view, memories)
        return jax.lax.scan(step, carry, length=env.time_limit)[1].sum()

    return np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(key, num_episodes)), np.float64)


@dataclasses.dataclass
class Arguments:
    """Command line."""

    episodes: int = 1000
    """Episodes to play."""
    episode_seed: int = 0
    """Seed of the episodes."""


def main() -> int:
    """Prints the mean return with its interval; returns the exit status."""
    args = command.parse(
        Arguments, "Plays Turn with a script whose agents see no more than learners do."
    )
    if args.episodes < 2:
        raise ConfigurationError(f"--episodes is {args.episodes}; it must be at least 2.")
    if not 0 <= args.episode_seed < 2**32:
        raise ConfigurationError(
            f"--episode-seed is {args.episode_seed}; it must be at least 0 and at most {2**32 - 1}."
        )
    played = returns(jax.random.key(args.episode_seed), args.episodes)
    # 1.96 deviations of the mean: there are many episodes.
    mean, error = played.mean(), 1.96 * played.std(ddof=1) / args.episodes**0.5
    print(
        f"script on turn: mean return of {args.episodes} episodes {mean:.4g} "
        f"(95% interval {mean - error:.4g} to {mean + error:.4g})"
    )
    return 0


if __name__ == "__main__":
    command.run(main)
