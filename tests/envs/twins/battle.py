"""Battle in plain NumPy, for B episodes at a time, on boards that say which unit stands where.

Chance comes from outside: `after.lots` says in which order units attack, what enemies do at random, and where the dead
come back.
"""

from typing import Any

import numpy as np

FREE, WALL = -1, -2
PAD = 7  # cells of wall around the map, for jumps and views that leave it

EOI_STEPS = [(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)]
EOI_BLOWS = [(-1, 0), (1, 0), (0, -1), (0, 1)]
# MAgent's, (right, down) as it counts them.
STEPS = [(0, -2), (-1, -1), (0, -1), (1, -1), (-2, 0), (-1, 0), (0, 0), (1, 0), (2, 0)]
STEPS += [(-1, 1), (0, 1), (1, 1), (0, 2)]
BLOWS = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]


def circle(radius: int) -> list[tuple[int, int]]:
    """(down, right) of all cells that are no farther, row by row."""
    reach = range(-radius, radius + 1)
    return [(down, right) for down in reach for right in reach if down**2 + right**2 <= radius**2]


class BattleTwin:
    """B episodes of Battle.

    Args:
        start: the batch of states after the reset.
        size: side of the map.
        time_limit: steps of an episode.
        magent: whether MAgent's rules hold.
        respawn: whether the dead come back.
        noise: how often an enemy acts at random.
        self_play: whether there is nobody for the script to play.
    """

    def __init__(
        self,
        start: Any,
        size: int = 30,
        time_limit: int = 100,
        magent: bool = False,
        respawn: bool = True,
        noise: float = 0.0,
        self_play: bool = False,
    ) -> None:
        self.size, self.limit, self.magent = size, time_limit, magent
        self.respawn, self.self_play = respawn, self_play
        self.often = np.float32(1 / noise if noise else np.inf)
        self.cells = np.concatenate([start.positions, start.enemies], axis=1) + PAD
        self.count, self.units, _ = self.cells.shape
        self.agents = start.positions.shape[1]
        self.reds = self.agents // 2 if self_play else self.agents
        self.unit = 0.005 if magent else 1
        most = [100, 100] if magent else [120, 80]
        self.most = np.repeat(most, [self.reds, self.units - self.reds])
        recovery = [1, 1] if magent else [4, 0]
        self.recovery = np.repeat(recovery, [self.reds, self.units - self.reds])
        self.health = np.tile(self.most, (self.count, 1))
        self.hit = np.zeros(self.health.shape, bool)
        self.lots = np.zeros((self.count, 3, self.units), np.float32)
        self.kills, self.deaths = np.zeros((2, self.count), int)
        self.earned = np.zeros(self.count, int)
        self.steps = 0
        self.every = np.arange(self.count)
        self.board = np.full((self.count, size + 2 * PAD, size + 2 * PAD), WALL)
        self.board[:, PAD + 1 : PAD + size - 1, PAD + 1 : PAD + size - 1] = FREE
        for unit in range(self.units):
            here = (self.every, *self.cells[:, unit].T)
            assert (self.board[here] == FREE).all(), "two units start in one cell, or one in a wall"
            self.board[here] = unit

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step."""
        self.steps += 1
        self.lots = after.lots
        aim, way = self._orders(action)
        lived, before = self.health >= 0, self.health.copy()
        outcome = self._attacks(aim)
        died = lived & (self.health < 0)
        self.hit = (self.health < before) & ~died
        for episode, unit in np.argwhere(died):
            self.board[episode, *self.cells[episode, unit]] = FREE
        recovered = np.minimum(self.health + self.recovery, self.most)
        self.health = np.where(self.health >= 0, recovered, self.health)
        for unit in range(self.units):
            self._move(unit, way[:, unit])
        earned = self._pay(lived, died, outcome, aim.any(-1))
        self.kills = self.kills + died[:, self.reds :].sum(1)
        self.deaths = self.deaths + died[:, : self.reds].sum(1)
        self.earned = self.earned + earned[:, : self.reds].sum(1)
        here = self.health >= 0
        over = ~here[:, : self.reds].any(1) | ~here[:, self.reds :].any(1)
        if self.respawn:
            over = np.zeros(self.count, bool)
            for episode, unit in np.argwhere(died):
                self._come_back(episode, unit)
        reward = earned[:, : self.agents] if self.magent else earned[:, : self.reds].sum(1)
        return (reward * self.unit).astype(np.float32), over

    def _orders(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[B, U, 2] what each unit attacks and where it goes, (down, right) of its cell."""
        across = [(down, right) for right, down in STEPS], [(down, right) for right, down in BLOWS]
        steps, blows = across if self.magent else (EOI_STEPS, EOI_BLOWS)
        aim, way = np.zeros((2, self.count, self.units, 2), int)
        nothing = [(0, 0)]
        ways, aims = np.array(steps + nothing * len(blows)), np.array(nothing * len(steps) + blows)
        way[:, : self.agents], aim[:, : self.agents] = ways[action], aims[action]
        if not self.self_play:
            steps, blows = across
            ways, aims = np.array(steps + nothing * 8), np.array(nothing * 13 + blows)
            for unit in range(self.reds, self.units):
                order = self._enemy(unit, steps, blows)
                way[:, unit], aim[:, unit] = ways[order], aims[order]
        return aim, way

    def _enemy(self, unit: int, steps: list[Any], blows: list[Any]) -> np.ndarray:
        """[B] what the script orders an enemy."""
        row, column = self.cells[:, unit].T
        chance = self.lots[:, 1, unit]
        away = ((self.cells[:, : self.reds] - self.cells[:, unit, None]) ** 2).sum(-1)
        away = np.where(self.health[:, : self.reds] >= 0, away, 10**6)
        nearest = away.argmin(1)
        goal = self.cells[self.every, nearest]
        ends = []
        for down, right in steps:
            there = self.board[self.every, row + down, column + right]
            left = (goal[:, 0] - row - down) ** 2 + (goal[:, 1] - column - right) ** 2
            ends.append(np.where((there == FREE) | (there == unit), left, 10**6))
        order = np.argmin(ends, axis=0)
        weakest = np.full(self.count, 10**6)
        for number, (down, right) in enumerate(blows, len(steps)):
            there = self.board[self.every, row + down, column + right]
            red = (there >= 0) & (there < self.reds)
            weak = np.where(
                red, 1000 * self.health[self.every, np.maximum(there, 0)] + there, 10**6
            )
            order = np.where(weak < weakest, number, order)
            weakest = np.minimum(weak, weakest)
        blind = away.min(1) > 36
        noisy = ~blind & (chance * self.often < 1)
        lot = np.where(noisy, chance * self.often, chance)
        return np.where(blind | noisy, np.floor(lot * np.float32(21)).astype(int), order)

    def _attacks(self, aim: np.ndarray) -> np.ndarray:
        """[B, U] what each unit's attack did: 0 nothing, 1 a hit, 2 a kill."""
        outcome = np.zeros((self.count, self.units), int)
        for unit in np.argsort(self.lots[:, 0], axis=1, kind="stable").T:
            strikes = aim[self.every, unit].any(-1) & (self.health[self.every, unit] >= 0)
            cell = self.cells[self.every, unit] + aim[self.every, unit]
            victim = self.board[self.every, *cell.T]
            strikes &= (victim >= 0) & ((victim < self.reds) != (unit < self.reds))
            strikes &= self.health[self.every, np.maximum(victim, 0)] >= 0
            who = self.every[strikes], victim[strikes]
            self.health[who] -= 20
            outcome[self.every[strikes], unit[strikes]] = 1 + (self.health[who] < 0)
        return outcome

    def _move(self, unit: int, way: np.ndarray) -> None:
        cell = self.cells[:, unit]
        goes = (self.board[self.every, *(cell + way).T] == FREE) & (self.health[:, unit] >= 0)
        self.board[self.every[goes], *cell[goes].T] = FREE
        cell[goes] += way[goes]
        self.board[self.every[goes], *cell[goes].T] = unit

    def _pay(
        self, lived: np.ndarray, died: np.ndarray, outcome: np.ndarray, attacked: np.ndarray
    ) -> np.ndarray:
        """[B, U] in units of 1, of 0.005 with MAgent's rules."""
        if not self.magent:
            return np.array([0, 1, 10])[outcome] - 2 * died
        pay = -1 - 20 * attacked + 1000 * (outcome == 2)
        pay[died] = -20
        return lived * (pay + 40 * (outcome == 1))

    def _come_back(self, episode: int, unit: int) -> None:
        free = np.flatnonzero(self.board[episode] == FREE)
        number = int(self.lots[episode, 2, unit] * np.float32(len(free)))
        cell = free[min(number, len(free) - 1)]
        self.cells[episode, unit] = divmod(cell, self.board.shape[2])
        self.board[episode, *self.cells[episode, unit]] = unit
        self.health[episode, unit] = self.most[unit]

    def state(self) -> dict[str, np.ndarray]:
        """Cells without the margin."""
        cells = self.cells - PAD
        return {
            "positions": cells[:, : self.agents],
            "enemies": cells[:, self.agents :],
            "health": self.health,
            "hit": self.hit,
            "lots": self.lots,
            "kills": self.kills,
            "deaths": self.deaths,
            "earned": self.earned,
        }

    def alive(self) -> np.ndarray:
        """[B, N]."""
        return self.health[:, : self.agents] >= 0

    def action_mask(self) -> np.ndarray:
        """All is legal for the living."""
        mask = np.repeat(self.alive()[..., None], 21 if self.magent else 9, axis=-1)
        mask[..., 6 if self.magent else 4] = True
        return mask

    def agents_view(self) -> np.ndarray:
        """[B, N, F], agent by agent, cell by cell."""
        return self._magent_view() if self.magent else self._eoi_view()

    def _eoi_view(self) -> np.ndarray:
        """What is shown of a cell hangs on who is there alone: a number for each unit, and 0 for nobody and walls."""
        shown = np.where(np.arange(self.units) < self.reds, 1, -(1 + self.health / self.most) / 2)
        shown = np.pad(shown.astype(np.float32), ((0, 0), (2, 0)))  # WALL, FREE, unit 0, ...
        width = self.board.shape[2]
        down, right = np.array(circle(5)).T
        rows, columns = self.cells[:, : self.agents].transpose(2, 0, 1)
        place = rows * width + columns + self.every[:, None] * width**2
        there = self.board.ravel().take(place[..., None] + down * width + right)
        seen = shown.ravel().take(there + 2 + self.every[:, None, None] * shown.shape[1])
        own = (self.cells - PAD)[:, : self.agents] / self.size
        rest = (self.health / self.most)[:, : self.agents, None]
        view = np.concatenate([seen, own, rest], axis=-1, dtype=np.float32, casting="same_kind")
        return view * self.alive()[..., None]

    def _magent_view(self) -> np.ndarray:
        offsets = np.array(circle(6))
        seen = self.cells[:, : self.agents, None] + offsets
        there = self.board[self.every[:, None, None], seen[..., 0], seen[..., 1]]
        somebody, blue = there >= 0, there >= self.reds
        health = (self.health / self.most)[self.every[:, None, None], np.maximum(there, 0)]
        own = np.arange(self.agents)[:, None] >= self.reds
        ally, enemy = somebody & (blue == own), somebody & (blue != own)
        on_map = ((seen >= PAD) & (seen < PAD + self.size)).all(-1)
        wall = on_map & (there == WALL)
        maps = [wall, ally, ally * health, enemy, enemy * health]
        view = np.stack(maps, axis=-1).reshape(self.count, self.agents, -1)
        return (view * self.alive()[..., None]).astype(np.float32)

    def global_state(self) -> np.ndarray:
        """Unit by unit, then the clock."""
        alive = (self.health >= 0)[..., None]
        share = (self.health / self.most)[..., None]
        parts = [(self.cells - PAD) / self.size, share, np.ones_like(share)]
        units = (np.concatenate(parts, axis=-1) * alive).reshape(self.count, -1)
        clock = np.full(self.count, np.float32(self.steps) / np.float32(self.limit))
        return np.column_stack([units, clock]).astype(np.float32)

    def extras(self) -> dict[str, np.ndarray]:
        """What was counted."""
        return {"kills": self.kills, "deaths": self.deaths, "team_return": self.earned * self.unit}
