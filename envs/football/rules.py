"""How players run and how the ball flies in `Football`: pure functions of one game.

All lengths are whole thousandths of half the pitch's length, (x, y), so that every comparison is exact. The pitch
reaches from -`LENGTH` to `LENGTH` and from -`WIDTH` to `WIDTH`; the goal is at x = `LENGTH`.
"""

import jax
import jax.numpy as jnp
import numpy as np

LENGTH, WIDTH, POST, AIM = 1000, 420, 44, 32
SPEED, PASS_SPEED, SHOT_SPEED = 20, 100, 200
REACH, TACKLE_REACH = 20, 30
KEEPER_LINE, KEEPER_SPEED = 980, 8
_FAR = 30_000  # more than any reach times any speed; its square fits into 32 bits
_LATE = 2**30
_PASS_AVERAGE = 80  # how far a pass flies in one of its first steps

# The eight directions, anticlockwise from the one to the goal.
_SIGNS = np.array([(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)], np.int32)


def paces(speed: int) -> tuple[int, int]:
    """How far a player of this speed comes in a step: along an axis, and along each of both at once."""
    return speed, round(speed * 0.5**0.5)


def steps_of(action: jax.Array, speed: int) -> jax.Array:
    """[N, 2] int32, how far actions [N] take their players; 0 for those that are no direction."""
    straight, slanting = paces(speed)
    steps = np.where(np.all(_SIGNS != 0, axis=-1, keepdims=True), slanting, straight) * _SIGNS
    mine = action[:, None] == np.arange(len(steps))
    return jnp.sum(jnp.where(mine[..., None], steps, 0), axis=1)


def heading(way: jax.Array) -> jax.Array:
    """[...] int32, the action whose direction is nearest to `way` [..., 2]; 8, to stay, if that is 0."""
    x, y = way[..., 0], way[..., 1]
    ahead = jnp.where(5 * abs(x) > 2 * abs(y), jnp.sign(x), 0)
    aside = jnp.where(5 * abs(y) > 2 * abs(x), jnp.sign(y), 0)
    same = (ahead[..., None] == _SIGNS[:, 0]) & (aside[..., None] == _SIGNS[:, 1])
    action = jnp.sum(jnp.where(same, np.arange(8), 0), axis=-1)
    return jnp.where(jnp.any(same, axis=-1), action, 8).astype(jnp.int32)


def run(places: jax.Array, goals: jax.Array, speed: int) -> jax.Array:
    """[D, 2] where players [D, 2] are after a step towards `goals` [D, 2]."""
    straight, slanting = paces(speed)
    way = goals - places
    both = jnp.all(way != 0, axis=-1, keepdims=True)
    most = jnp.where(both, slanting, straight)
    return places + jnp.clip(way, -most, most)


def keeper_goal(ball: jax.Array, flight: jax.Array) -> jax.Array:
    """[2] int32, where the keeper wants to stand: where a flying ball will come, or beside it, between the posts."""
    left = KEEPER_LINE - ball[0]
    comes = (flight[0] > 0) & (left > 0)
    drift = jnp.where(comes, flight[1] * left // jnp.maximum(flight[0], 1), 0)
    return jnp.stack([jnp.int32(KEEPER_LINE), jnp.clip(ball[1] + drift, -POST, POST)])


def stay_on_pitch(places: jax.Array) -> jax.Array:
    """The nearest places [..., 2] on the pitch."""
    most = np.array([LENGTH, WIDTH], np.int32)
    return jnp.clip(places, -most, most)


def squares(ways: jax.Array) -> jax.Array:
    """[...] int32, the squared lengths of `ways` [..., 2]."""
    return ways[..., 0] ** 2 + ways[..., 1] ** 2


def receiver(places: jax.Array, passer: jax.Array, way: jax.Array) -> jax.Array:
    """Whom a pass is meant for: the mate in the direction that is nearest to `way`, the first of equals.

    Args:
        places: [N, 2] int32, where the team is.
        passer: [] int32, who passes.
        way: [2] int32, not 0.

    Returns:
        [N] bool, true for one that is not the passer.
    """
    mine = jnp.arange(len(places)) == passer
    ahead = places - chosen(places, mine)
    along = (ahead[:, 0] * way[0] + ahead[:, 1] * way[1]).astype(jnp.float32)
    # The cosine's square with its sign, times what all have in common.
    score = along * abs(along) / jnp.maximum(squares(ahead), 1).astype(jnp.float32)
    score = jnp.where(mine, -jnp.inf, score)
    return jnp.arange(len(places)) == jnp.argmax(score)


def by_distance(viewers: jax.Array, others: jax.Array) -> jax.Array:
    """Where others are, seen from each viewer, the nearest first; of equals the first by number.

    Args:
        viewers: [V, 2] int32.
        others: [K, 2] int32, at most 16.

    Returns:
        [V, K, 2] int32, relative to the viewer.
    """
    x, y = (others[:, i] - viewers[:, i, None] for i in range(2))  # [V, K]
    numbers = np.arange(len(others))
    order = jax.lax.sort((x**2 + y**2) * 16 + numbers, is_stable=False) % 16
    # To sort the ways along with their lengths takes twice as long.
    order, ways = jax.lax.optimization_barrier((order, x * 4096 + y))
    found = jnp.zeros_like(ways)
    for k in numbers:
        found = jnp.where(order == k, ways[:, k, None], found)
    x = (found + 2048) >> 12
    return jnp.stack([x, found - x * 4096], axis=-1)


def chosen(places: jax.Array, mine: jax.Array) -> jax.Array:
    """[2], the place [K, 2] of the one that is `mine` [K]; 0 if none is."""
    return jnp.sum(jnp.where(mine[:, None], places, 0), axis=0)


def velocity(way: jax.Array, speed: int | jax.Array) -> jax.Array:
    """[2] int32, how far a ball kicked along `way` [2] flies in its first step, rounded towards 0."""
    square = jnp.maximum(squares(way), 1)
    length = jnp.ceil(jnp.sqrt(square.astype(jnp.float32))).astype(jnp.int32)
    # Exactly the smallest whole number that is no shorter, however the root was rounded.
    length -= (length - 1) ** 2 >= square
    length += length**2 < square
    return jax.lax.div(way * speed, length)


def lead(way: jax.Array, runs: jax.Array) -> jax.Array:
    """[2] the way to where somebody `way` [2] off will be when a pass arrives, if it runs on by `runs` [2] a step."""
    return way + runs * (jnp.max(abs(way)) // _PASS_AVERAGE)


def slowed(flight: jax.Array) -> jax.Array:
    """[2] int32, how far a ball flies that flew this far in the step before: nine tenths, rounded towards 0."""
    return jax.lax.div(9 * flight, jnp.int32(10))


def fly(
    ball: jax.Array, flight: jax.Array, players: jax.Array, reach: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What becomes of a ball that nobody has, on its way from `ball` to `ball` + `flight`.

    Args:
        ball: [2] int32.
        flight: [2] int32, at most `SHOT_SPEED` long.
        players: [P, 2] int32, where all are after their own moves.
        reach: [P] int32, how near to its way each takes the ball; -1 for who may not.

    Returns:
        [P] bool, who takes it: the first on its way, of equals the nearest to its start, then the first by number;
        and [] bool, whether it is in the goal, and whether it is out. At most one of the three.
    """
    way = players - ball
    length = squares(flight)
    along = jnp.clip(way[:, 0] * flight[0] + way[:, 1] * flight[1], 0, length)
    across = jnp.minimum(abs(way[:, 0] * flight[1] - way[:, 1] * flight[0]), _FAR)
    passed = (along > 0) & (along < length)
    near = squares(way - jnp.where(along > 0, 1, 0)[:, None] * flight) <= reach**2
    takes = jnp.where(passed, across**2 <= reach**2 * length, near) & (reach >= 0)

    # Half-way to the goal along the flight counts as `length` / 2, and so does whoever stands there.
    left = LENGTH - ball[0]
    crosses = flight[0] > left
    crosses &= abs(ball[1] * flight[0] + flight[1] * left) < POST * flight[0]
    takes &= ~crosses | (along * flight[0] < length * left)

    order = jnp.where(takes, along * 1024 + jnp.minimum(squares(way), 1023), _LATE)
    taker = takes & (jnp.arange(len(order)) == jnp.argmin(order))
    taken, end = jnp.any(takes), ball + flight
    out = jnp.any(end != stay_on_pitch(end))
    return taker, crosses & ~taken, out & ~crosses & ~taken
