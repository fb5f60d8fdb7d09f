"""Football in plain NumPy, for B episodes at a time, with distances in float64.

Chance comes from outside: `after.lots` says whose tackle succeeds and where a shot goes.
"""

import math
from typing import Any

import numpy as np

EIGHT = [(20, 0), (14, 14), (0, 20), (-14, 14), (-20, 0), (-14, -14), (0, -20), (14, -14)]
DEPTH = [10, 10, 7, 7, 5, 4, 4, 3, 3]
BESIDE = [40, -40, 110, -110, 0, 70, -70, 180, -180]


class FootballTwin:
    """B episodes of Football.

    Args:
        start: the batch of states after the reset.
        time_limit: steps of an episode.
        tackle: chance that a tackle succeeds.
        speed: of a defender, straight and aslant.
        spread: how far a shot may miss, as a share of the distance.
    """

    def __init__(
        self,
        start: Any,
        time_limit: int = 100,
        tackle: float = 0.2,
        speed: tuple[int, int] = (16, 11),
        spread: float = 0.12,
    ) -> None:
        self.limit, self.tackle, self.speed, self.spread = time_limit, tackle, speed, spread
        self.agents, self.others = np.array(start.positions), np.array(start.defenders)
        self.moved = np.zeros_like(self.agents)
        self.ball, self.owner = np.array(start.ball), np.array(start.owner)
        self.flight = np.zeros_like(self.ball)
        self.count, self.n, _ = self.agents.shape
        self.lots = np.array(start.lots)
        self.scored = np.zeros(self.count, bool)
        self.over = np.zeros(self.count, bool)
        self.steps = 0

    def step(self, action: np.ndarray, after: Any) -> tuple[np.ndarray, np.ndarray]:
        """Plays a step, episode by episode; those that are over stand still."""
        self.steps += 1
        self.lots = after.lots
        others = self._defend()
        steps = np.array([*EIGHT, (0, 0), (0, 0), (0, 0)])[action]
        agents = np.clip(self.agents + steps, (-1000, -420), (1000, 420))
        reward = np.zeros(self.count, np.float32)
        for b in np.flatnonzero(~self.over):
            players = np.concatenate([agents[b], others[b]])
            owner = self.owner[b]
            if owner >= 0 and (owner >= self.n or action[b, owner] < 9):
                out = self._dribble(b, players)
            else:
                if owner >= 0:
                    self.flight[b] = self._kick(b, action[b, owner] == 10)
                out = self._fly(b, players)
            lost = out or self.owner[b] >= self.n
            reward[b] = np.float32(1) if self.scored[b] else np.float32(-0.2) if lost else 0
            self.over[b] = self.scored[b] or lost
        self.moved = agents - self.agents
        self.agents, self.others = agents, others
        return reward, self.over

    def _defend(self) -> np.ndarray:
        """[B, D, 2] where the defenders are then."""
        ball = self.ball[:, None]
        field = self.others[:, 1:]
        count = field.shape[1]
        nearest = np.argsort(((field - ball) ** 2).sum(-1), axis=1, kind="stable")[:, :2]
        depth = np.array(DEPTH[:count])
        goals = np.stack(
            [
                ball[..., 0] + (1000 - ball[..., 0]) * depth // 16,
                ball[..., 1] - ball[..., 1] * depth // 16 + BESIDE[:count],
            ],
            axis=-1,
        )
        np.put_along_axis(goals, nearest[..., None], ball, axis=1)
        straight, slanting = self.speed
        keeper = self._towards(self.others[:, :1], self._keeper()[:, None], 8, 6)
        return np.concatenate([keeper, self._towards(field, goals, straight, slanting)], axis=1)

    def _keeper(self) -> np.ndarray:
        """[B, 2] where the keepers want to be."""
        y = self.ball[:, 1].copy()
        comes = (self.flight[:, 0] > 0) & (self.ball[:, 0] < 980)
        left, (ahead, aside) = 980 - self.ball[comes, 0], self.flight[comes].T
        y[comes] += aside * left // ahead
        return np.stack([np.full(self.count, 980), np.clip(y, -44, 44)], axis=-1)

    def _towards(
        self, places: np.ndarray, goals: np.ndarray, straight: int, slanting: int
    ) -> np.ndarray:
        way = goals - places
        both = (way[..., :1] != 0) & (way[..., 1:] != 0)
        most = np.where(both, slanting, straight)
        return places + np.sign(way) * np.minimum(abs(way), most)

    def _dribble(self, b: int, players: np.ndarray) -> bool:
        owner = self.owner[b]
        self.ball[b] = players[owner]
        near = ((players[self.n :] - self.ball[b]) ** 2).sum(-1) <= 30**2
        robs = np.flatnonzero(near & (self.lots[b, :-1] < np.float32(self.tackle)))
        if len(robs):
            self.owner[b] = self.n + robs[0]
            self.ball[b] = players[self.owner[b]]
        return False

    def _kick(self, b: int, shoots: bool) -> np.ndarray:
        """[2] how far the ball flies."""
        owner, ball = self.owner[b], self.ball[b]
        if shoots:
            left = 1000 - ball[0]
            spread = int(np.float32(left) * np.float32(self.spread))
            side = -32 if self.others[b, 0, 1] > 0 else 32
            miss = int(self.lots[b, -1] * np.float32(2 * spread + 1)) - spread
            way = np.array([left, side + miss - ball[1]])
        else:
            ran = self.moved[b, owner] if self.moved[b, owner].any() else np.array([1, 0])
            ways = self.agents[b] - ball
            along = (ways @ ran).astype(np.float32)
            # In float32, in which nearly equal directions may be equal.
            cosines = along * abs(along) / np.maximum((ways**2).sum(-1), 1).astype(np.float32)
            cosines[owner] = -np.inf
            mate = cosines.argmax()
            way = ways[mate] + self.moved[b, mate] * (abs(ways[mate]).max() // 80)
        length = math.isqrt(max(int(way @ way), 1) - 1) + 1
        return np.fix(way * (200 if shoots else 100) / length).astype(int)

    def _fly(self, b: int, players: np.ndarray) -> bool:
        """Whether the ball is out."""
        ball, flight, kicker = self.ball[b].copy(), self.flight[b].copy(), self.owner[b]
        length = float(flight @ flight)
        takers = []
        for number, place in enumerate(players):
            way = place - ball
            along = min(max(float(way @ flight), 0.0), length)
            foot = way - flight * (along / length if length else 0.0)
            if number != kicker and foot @ foot <= 20**2 + 1e-6:
                takers.append((along, min(int(way @ way), 1023), number))
        end, left = ball + flight, 1000 - ball[0]
        goal = flight[0] > left and abs(ball[1] + flight[1] * left / flight[0]) < 44 - 1e-9
        if goal:
            takers = [t for t in takers if t[0] < length * left / flight[0] - 1e-9]
        self.owner[b], self.ball[b] = -1, end
        self.flight[b] = np.fix(flight * 9 / 10)
        if takers:
            self.owner[b] = min(takers)[2]
            self.ball[b], self.flight[b] = players[self.owner[b]], 0
            return False
        self.scored[b] = goal
        return not goal and bool((abs(end) > (1000, 420)).any())

    def state(self) -> dict[str, np.ndarray]:
        """All of it."""
        return {
            "positions": self.agents,
            "moved": self.moved,
            "defenders": self.others,
            "ball": self.ball,
            "flight": self.flight,
            "owner": self.owner,
            "lots": self.lots,
            "scored": self.scored,
        }

    def action_mask(self) -> np.ndarray:
        """Who has the ball may do all."""
        mask = np.ones((self.count, self.n, 11), bool)
        mask[..., 9:] = (self.owner[:, None] == np.arange(self.n))[..., None]
        return mask

    def agents_view(self) -> np.ndarray:
        """[B, N, F], agent by agent."""
        views = [np.concatenate(self._view(i), axis=-1) for i in range(self.n)]
        return np.stack(views, axis=1).astype(np.float32)

    def _view(self, i: int) -> list[np.ndarray]:
        me = self.agents[:, i]
        mine, owner = self.owner == i, self.owner
        whose = [owner < 0, mine, (owner >= 0) & (owner < self.n) & ~mine, owner >= self.n]
        view = [me / 1000, self.moved[:, i] / 20, (self.ball - me) / 1000, self.flight / 100]
        view.append(np.stack(whose, axis=-1))
        for side in (np.delete(self.agents, i, axis=1), self.others):
            ways = side - me[:, None]
            order = np.argsort((ways**2).sum(-1), axis=1, kind="stable")
            near = np.take_along_axis(ways, order[..., None], axis=1)
            view.append(near.reshape(self.count, -1) / 1000)
        return view

    def global_state(self) -> np.ndarray:
        """[B, G]."""
        places = np.concatenate([self.agents, self.others, self.ball[:, None]], axis=1) / 1000
        numbers = np.arange(-1, self.n + self.others.shape[1])
        parts = [places, self.moved / 20, self.flight / 100]
        parts += [self.owner[:, None] == numbers, np.full(self.count, self.steps / self.limit)]
        return np.concatenate([p.reshape(self.count, -1) for p in parts], axis=1).astype(np.float32)

    def extras(self) -> dict[str, np.ndarray]:
        """Whether it is a goal."""
        return {"scored": self.scored.astype(np.float32)}
