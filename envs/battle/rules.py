"""What happens in order in `Battle`, and what its units see: pure functions of one battle.

U units have numbers 0..U-1. A cell has one number, row * `STRIDE` + column, so that two cells are compared at once; the
dead stand on `NOWHERE`. Health is in tenths, and whoever has less than 0 is dead.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import grid

DAMAGE = 20
STRIDE = 128
"""More than the columns of a map and what is seen beyond them."""
NOWHERE = -STRIDE * STRIDE
LARGEST_MAP = 99


def disc(radius: float) -> np.ndarray:
    """The offsets of at most this length, row by row: [K, 2] int32 (rows, columns)."""
    offsets = grid.square(int(radius))
    return offsets[np.sum(offsets**2, axis=-1) <= radius**2]


@dataclasses.dataclass(frozen=True)
class Soldier:
    """What a unit can do.

    Attributes:
        health: at the start and at most, in tenths.
        recovery: health gained in a step, in tenths.
        moves: [M, 2] the cells where it can go, relative to its own: actions 0..M-1.
        attacks: [K, 2] the cells that it can attack: actions M..M+K-1.
        radius: how far it sees.
    """

    health: int
    recovery: int
    moves: np.ndarray
    attacks: np.ndarray
    radius: int

    @property
    def num_actions(self) -> int:
        """M + K."""
        return len(self.moves) + len(self.attacks)

    @property
    def stay(self) -> int:
        """The action that is no move."""
        return int(np.flatnonzero(~self.moves.any(axis=-1))[0])


_CROSS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)], np.int32)
_RING = np.delete(disc(1.5), 4, axis=0)

MAGENT = Soldier(health=100, recovery=1, moves=disc(2), attacks=_RING, radius=6)
AGENT = Soldier(
    health=120, recovery=4, moves=np.append(_CROSS, [[0, 0]], axis=0), attacks=_CROSS, radius=5
)
ENEMY = Soldier(health=80, recovery=0, moves=disc(2), attacks=_RING, radius=6)


def number(cell: Any) -> Any:
    """[...] int32, the numbers of cells [..., 2] (row, column)."""
    return cell[..., 0] * STRIDE + cell[..., 1]


def cell_of(number: jax.Array) -> jax.Array:
    """[..., 2] int32, the cells (row, column) on the map that have these numbers [...]."""
    return jnp.stack([number // STRIDE, number % STRIDE], axis=-1)


def on_map(cell: jax.Array, size: int) -> jax.Array:
    """[...] bool, whether cells [..., 2] lie within the ring of walls of a map with this side."""
    return grid.inside(cell - 1, size - 2, size - 2)


def chosen(action: jax.Array, offsets: np.ndarray, first: int) -> jax.Array:
    """The offset that an action asks for.

    Args:
        action: [U] int32.
        offsets: [K, 2], those of the actions `first` to `first` + K - 1.
        first: the first of these actions.

    Returns:
        [U, 2] int32, 0 for any other action.
    """
    mine = action[:, None] == first + jnp.arange(len(offsets))
    return jnp.sum(jnp.where(mine[..., None], jnp.asarray(offsets), 0), axis=1)


def fight(target: jax.Array, lots: jax.Array, health: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The attacks, one after the other; who was killed before its turn does nothing.

    Args:
        target: [U] int32, the number of the unit that each unit attacks; -1 if none.
        lots: [U] float32, the smallest attacks first; of equal ones the first.
        health: [U] int32.

    Returns:
        The health afterwards, and [U] int32 what each unit's attack did: 0 nothing, 1 a hit, 2 a kill.
    """
    numbers = jnp.arange(len(target))
    attacks = target >= 0
    earlier = (lots < lots[:, None]) | ((lots == lots[:, None]) & (numbers < numbers[:, None]))
    turn = jnp.where(attacks, jnp.sum(earlier & attacks, axis=-1), -1)

    def attack(k: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        health, outcome = now
        mine = turn == k
        aim = jnp.max(jnp.where(mine & (health >= 0), target, -1))
        struck = (numbers == aim) & (health >= 0)
        after = jnp.where(struck, health - DAMAGE, health)
        effect = jnp.sum(jnp.where(struck, 1 + (after < 0), 0))
        return after, jnp.where(mine, effect, outcome)

    return jax.lax.fori_loop(0, jnp.sum(attacks), attack, (health, jnp.zeros_like(target)))


def march(cells: jax.Array, wanted: jax.Array) -> jax.Array:
    """The moves, in the order of the units' numbers: into a cell that is free at that moment.

    Args:
        cells: [U] int32, where the units stand.
        wanted: [U] int32, where they want to go; their own cell if nowhere.

    Returns:
        [U] int32, where they stand then.
    """

    def move(cells: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        unit, want = now
        free = ~jnp.any(cells == want)
        return jnp.where((jnp.arange(len(cells)) == unit) & free, want, cells), None

    return jax.lax.scan(move, cells, (jnp.arange(len(cells)), wanted))[0]


def place(cells: jax.Array, missing: jax.Array, lots: jax.Array, size: int) -> jax.Array:
    """Puts units on random free cells, one after the other, every free cell equally likely.

    Args:
        cells: [U] int32, where the others stand.
        missing: [U] bool, who is to be put somewhere.
        lots: [U] float32 in [0, 1).
        size: side of the map.

    Returns:
        [U] int32, where all stand then.
    """
    side, units = size - 2, jnp.arange(len(cells))
    # Free cells are counted row by row. Whoever is not on the map stands behind them all.
    row, column = cells // STRIDE - 1, cells % STRIDE - 1
    cells = jnp.where(missing, side * side, row * side + column)
    before = cells - jnp.sum(cells < cells[:, None], axis=-1)

    def put(
        now: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        cells, before, missing = now
        mine = units == jnp.min(jnp.where(missing, units, len(units)))
        free = side * side - jnp.sum(~missing)
        lot = jnp.sum(jnp.where(mine, lots, 0.0))
        # So many free cells come before the new one, and all units that have no more before them.
        skipped = jnp.minimum((lot * free).astype(jnp.int32), free - 1)
        cell = skipped + jnp.sum((before <= skipped) & ~missing)
        before = jnp.where(mine, skipped, before - (cells > cell))
        return jnp.where(mine, cell, cells), before, missing & ~mine

    cells, *_ = jax.lax.while_loop(lambda now: jnp.any(now[2]), put, (cells, before, missing))
    return (1 + cells // side) * STRIDE + 1 + cells % side


def look(seen: jax.Array, cells: jax.Array, shows: jax.Array) -> jax.Array:
    """What is to be seen of all units in some cells.

    Args:
        seen: [V, K] int32, the cells that each of V viewers looks at.
        cells: [U] int32, where the units stand, each in a cell of its own.
        shows: [V, U] or [1, U], the number that a viewer sees where a unit stands.

    Returns:
        [V, K] of the type of `shows`, 0 where nobody is.
    """
    # A reduction over the units is not vectorised on a CPU; this loop, unrolled, is.
    cells, shows = jax.lax.optimization_barrier((cells, shows))
    view = jnp.zeros(seen.shape, shows.dtype)
    for unit in range(len(cells)):
        view = jnp.where(seen == cells[unit], shows[:, unit, None], view)
    return view


def script(
    soldier: Soldier, own: jax.Array, foes: jax.Array, health: jax.Array, blocked: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Attacks the weakest foe in reach; otherwise goes where it is nearest to the nearest foe.

    Of foes equally weak or equally near, and of equal moves, it takes the first.

    Args:
        soldier: what the V units of its side can do.
        own: [V, 2] int32, their cells.
        foes: [W, 2] int32, the other side's.
        health: [W] int32, the other side's.
        blocked: [V, M] bool, which moves end in a wall or in a cell that another unit holds.

    Returns:
        [V] int32 actions, and [V] int32 the squared distance of the nearest foe.
    """
    down, right = (foes[:, i] - own[:, i, None] for i in range(2))  # [V, W]
    living = jnp.broadcast_to(health >= 0, down.shape)
    attack = jnp.zeros_like(down)
    for action, (row, column) in enumerate(soldier.attacks, len(soldier.moves)):
        attack = jnp.where((down == row) & (right == column) & living, action, attack)
    victim = _first_least(health, attack > 0)
    attack = jnp.sum(jnp.where(victim, attack, 0), axis=-1)

    distance = down**2 + right**2
    nearest = _first_least(distance, living)
    down, right = (jnp.sum(jnp.where(nearest, x, 0), axis=-1)[:, None] for x in (down, right))
    rows, columns = soldier.moves.T
    left = (down - rows) ** 2 + (right - columns) ** 2  # [V, M]
    move = jnp.sum(_first_least(left, ~blocked) * np.arange(len(soldier.moves)), axis=-1)
    least = jnp.min(jnp.where(living, distance, jnp.iinfo(jnp.int32).max), axis=-1)
    return jnp.where(attack > 0, attack, move).astype(jnp.int32), least


def _first_least(value: jax.Array, among: jax.Array) -> jax.Array:
    """[..., K] bool: true at the first of the smallest values, of those that are `among` [..., K]."""
    order = value * among.shape[-1] + jnp.arange(among.shape[-1])
    order = jnp.where(among, order, jnp.iinfo(jnp.int32).max)
    return among & (order == jnp.min(order, axis=-1, keepdims=True))
