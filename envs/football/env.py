"""Football, the task of EOI in which ten agents attack.

Sources: Jiang and Lu, "The Emergence of Individuality", section 4.2, whose code was never published;
Kurach et al., "Google Research Football", github.com/google-research/football,
gfootball/scenarios/academy_counterattack_hard.py and gfootball/doc/observation.md.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jumanji.types import TimeStep

from envs.base import MultiAgentEnv, Observation
from envs.configuration import Config, Range
from envs.football import rules
from envs.football.state import State
from envs.viewer import Viewer

STAY, PASS, SHOT = 8, 9, 10
GOAL_REWARD = 1.0

# The midfielders who may start with the ball come first.
_ATTACK = np.array(
    [
        (250, -100),
        (250, 100),
        (500, -316),
        (350, 316),
        (-434, -106),
        (-434, 106),
        (-672, -196),
        (-672, 196),
        (-750, -64),
        (-750, 64),
    ],
    np.int32,
)
# The keeper comes first.
_DEFENCE = np.array(
    [
        (rules.KEEPER_LINE, 0),
        (400, 64),
        (400, -64),
        (-128, 196),
        (-128, -196),
        (-282, 0),
        (-365, 106),
        (-365, -106),
        (-540, 316),
        (-540, -316),
    ],
    np.int32,
)
# Where all but the keeper want to stand: how many sixteenths of the way from the ball to the goal, and how far beside.
_DEPTH = np.array([10, 10, 7, 7, 5, 4, 4, 3, 3], np.int32)
_BESIDE = np.array([40, -40, 110, -110, 0, 70, -70, 180, -180], np.int32)
_CHASERS = 2

# Of `scripted_action`.
_SHOT_FROM, _PRESSED, _AHEAD, _DEEPEST = 250, 80, 250, 850


@dataclasses.dataclass(frozen=True)
class FootballConfig(Config):
    """Options of `Football`.

    Attributes:
        num_agents: attackers [P]; with fewer than 10, those that start farthest forward. [S]
        num_defenders: of the scripted side [P], its keeper included; with fewer than 10, those that start
            nearest to their goal. [S]
        time_limit: steps an episode lasts at most. [S; R: 400]
        loss_reward: of the team when it loses the ball. [P]
        start_noise: how far from its place a player may start along each axis, in halves of the pitch's
            length. [S]
        tackle: chance that a defender who is near enough takes the ball from its owner, a step. [S]
        defender_speed: of the defenders, in thousandths of half the pitch's length a step; an agent's is 20. [S]
        shot_spread: how far from the goal's middle a shot may be aimed, as a share of the distance from
            the goal line. [S]
    """

    num_agents: Annotated[int, Range(minimum=2, maximum=10)] = 10
    num_defenders: Annotated[int, Range(minimum=1, maximum=10)] = 10
    time_limit: Annotated[int, Range(minimum=1)] = 100
    loss_reward: Annotated[float, Range(minimum=-1.0, maximum=0.0)] = -0.2
    start_noise: Annotated[float, Range(minimum=0.0, maximum=0.1)] = 0.05
    tackle: Annotated[float, Range(minimum=0.0, maximum=1.0)] = 0.2
    defender_speed: Annotated[int, Range(minimum=0, maximum=40)] = 16
    shot_spread: Annotated[float, Range(minimum=0.0, maximum=1.0)] = 0.12


class Football(MultiAgentEnv[State]):
    """Ten agents attack a goal that ten scripted defenders guard, until there is a goal or the ball is lost.

    Tags: [P] EOI's paper, [R] Google Research Football, [S] a choice of this project where they are
    silent, [C] computed by this project. The paper names the sides, a goal's 1 and a loss's -0.2, and plays
    in Google's simulator; its scenario was never published. This is no copy of that simulator but a plane
    with points that run, of which every number not marked otherwise is [S].

    Pitch [R]: x from -1 to 1, y from -0.42 to 0.42; the goal is at x = 1, where |y| < 0.044. All places and ways
    are whole thousandths [S], so that no rule hangs on how a machine rounds. Players do not stand in each other's way.

    Start [R: academy_counterattack_hard]: all at the scenario's places, each shifted by a uniform -0.05 to 0.05
    along either axis, but the keeper. The agents are its attackers without their keeper. Of the eleven defenders
    the middle one of the foremost three is left out, and the two full-backs, which it puts in one place, stand
    on either side. One of the two midfielders at x = 0.25 has the ball, each as likely.

    Actions, [10] int32: 0 to 7 run 0.02 in a direction, anticlockwise from the one to the goal (aslant 0.014
    along each axis), 8 stay, 9 pass, 10 shoot. `action_mask` [10, 11]: who has not the ball may neither pass nor
    shoot; such an action is to stay.

    One step:
        - Who passes or shoots stands still; the ball leaves it and flies 0.1 or 0.2. A pass goes to the mate in the
          direction nearest to that in which the passer ran last (to the goal, if it stood), or rather to where
          the mate will be if it runs on. A shot goes to the side of the goal where the keeper is not, 0.032 off
          the middle, missed by a uniform share of up to `shot_spread` of the distance to the goal line.
        - All run, within the pitch. The two defenders nearest to the ball run at it. The others line up between
          ball and goal. The keeper, at x = 0.98, follows the ball's y, or goes where a ball in flight will come,
          between the posts and 0.008 a step.
        - A ball that somebody has goes with its owner. Each defender within 0.03 of it takes it with a chance of
          `tackle`; of several the first.
        - A ball that nobody has flies on. Whoever is within 0.02 of its way takes it, the first on its way. If it
          has passed the goal line between the posts before, it is a goal; if it has left the pitch, it is out.
          After each step it flies nine tenths as far as before.

    Reward [P], [10] float32, the same for all: 1 for a goal; -0.2 when a defender has the ball or it is out.

    End [S; R: as the scenario]: with either, a termination. After `time_limit` = 100 steps [R: 400], a truncation.

    Observation, `agents_view` [10, 50] float32: the agent's own place and last step (in steps of 0.02), the ball's
    place relative to it, the ball's flight (in passes of 0.1), whose it is (nobody's, mine, a mate's, a defender's);
    then the places relative to it of its 9 mates and of the 10 defenders, of each the nearest first [S], so that
    nobody's number is in it. In general [N, 12 + 2 (N + D - 1)].

    `global_state` [86] float32: places of the agents, the defenders and the ball, the agents' last steps, the
    ball's flight, whose it is (nobody's, or each player's), step_count / time_limit. In general [5 N + 3 D + 6].

    `extras`: `scored`, [] float32, 1 if the ball is in the goal.

    Chance: the start; in each step one draw, from `fold_in(state.key, step_count)`, of uniform float32;
    `state.key` stays the same for the episode.

    Known mean returns [C]:
        .                           return    goals    steps
        uniformly random actions     -0.18      1.9%        9
        `scripted_action`             0.49       58%       21
    """

    Config: ClassVar[type[Config]] = FootballConfig

    def _setup(self) -> None:
        options = self.config
        self._sides = options.num_agents, options.num_defenders
        self._start = np.concatenate(
            [_ATTACK[: options.num_agents], _DEFENCE[: options.num_defenders]]
        )
        self._noise = round(rules.LENGTH * options.start_noise)
        self.num_agents = options.num_agents
        self.num_actions = 11
        self.time_limit = options.time_limit
        players = sum(self._sides)
        self.agents_view_size = 12 + 2 * (players - 1)
        self.global_state_size = 3 * players + 2 * self.num_agents + 6

    def reset(self, key: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Starts an episode.

        Args:
            key: random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`).

        Returns:
            The state and the first time step.
        """
        key, place_key, owner_key = jax.random.split(key, 3)
        shift = jax.random.randint(place_key, self._start.shape, -self._noise, self._noise + 1)
        places = rules.stay_on_pitch(jnp.asarray(self._start) + shift)
        agents, defenders = places[: self.num_agents], places[self.num_agents :]
        owner = jax.random.randint(owner_key, (), 0, 2)
        state = State(
            key=key,
            step_count=jnp.zeros((), jnp.int32),
            positions=agents,
            moved=jnp.zeros_like(agents),
            defenders=defenders.at[0].set(self._start[self.num_agents]),
            ball=jnp.where(owner == 0, agents[0], agents[1]),
            flight=jnp.zeros((2,), jnp.int32),
            owner=owner,
            lots=jnp.zeros((self._sides[1] + 1,)),
            scored=jnp.zeros((), bool),
        )
        return state, self._restart(self._observe(state), self._extras(state))

    def step(self, state: State, action: jax.Array) -> tuple[State, TimeStep[Observation]]:
        """Plays one step.

        Args:
            state: the state so far.
            action: [N] int32, each in 0..10.

        Returns:
            The next state and its time step.
        """
        n, step_count = self.num_agents, state.step_count + 1
        lots = jax.random.uniform(jax.random.fold_in(state.key, step_count), state.lots.shape)
        wanted = state.positions + rules.steps_of(action, rules.SPEED)
        agents = rules.stay_on_pitch(wanted)
        defenders = self._defend(state)
        players = jnp.concatenate([agents, defenders])
        numbers = jnp.arange(len(players))

        owns = numbers == state.owner
        kicks = owns[:n] & (action >= PASS)
        flight = jnp.where(jnp.any(kicks), self._kick(state, action, lots[-1]), state.flight)
        held = (state.owner >= 0) & ~jnp.any(kicks)
        reach = jnp.where(owns, -1, rules.REACH)
        taker, scored, out = rules.fly(state.ball, flight, players, reach)
        there = rules.chosen(players, owns)
        near = rules.squares(defenders - there) <= rules.TACKLE_REACH**2
        robs = jnp.concatenate([jnp.zeros((n,), bool), near & (lots[:-1] < self.config.tackle)])
        robs &= numbers == jnp.argmax(robs)

        has = jnp.where(held, jnp.where(jnp.any(robs), robs, owns), taker)
        owner = jnp.sum(jnp.where(has, numbers + 1, 0)) - 1
        owned = owner >= 0
        next_state = State(
            key=state.key,
            step_count=step_count,
            positions=agents,
            moved=agents - state.positions,
            defenders=defenders,
            ball=jnp.where(owned, rules.chosen(players, has), state.ball + flight),
            flight=jnp.where(owned, 0, rules.slowed(flight)),
            owner=owner.astype(jnp.int32),
            lots=lots,
            scored=scored & ~held,
        )
        lost = (owner >= n) | (out & ~held)
        reward = GOAL_REWARD * next_state.scored + self.config.loss_reward * lost
        timestep = self._transition(
            self._observe(next_state), reward, next_state.scored | lost, self._extras(next_state)
        )
        return next_state, timestep

    def scripted_action(self, state: State) -> jax.Array:
        """Dribbles to the goal, passes forward when pressed, shoots when near; the others run ahead of the ball.

        Args:
            state: the state, of which it sees everything.

        Returns:
            [N] int32.
        """
        goal = jnp.array([rules.LENGTH, 0], jnp.int32)
        owns = jnp.arange(self.num_agents) == state.owner
        ahead = jnp.clip(state.ball[0] + _AHEAD, -rules.LENGTH, _DEEPEST)
        lanes = np.stack([np.zeros(self.num_agents), self._start[: self.num_agents, 1]], axis=1)
        support = jnp.asarray(lanes, jnp.int32) + jnp.array([1, 0]) * ahead
        free, distance = state.owner < 0, rules.squares(state.positions - state.ball)
        fetches = free & (jnp.arange(self.num_agents) == jnp.argmin(distance))
        target = jnp.where(fetches[:, None], state.ball + state.flight, support)
        target = jnp.where(owns[:, None], goal, target)
        action = rules.heading(target - state.positions)

        pressed = jnp.any(rules.squares(state.defenders - state.ball) <= _PRESSED**2)
        mate = rules.receiver(state.positions, state.owner, self._direction(state))
        forward = rules.chosen(state.positions, mate)[0] > state.ball[0]
        near = rules.squares(goal - state.ball) <= _SHOT_FROM**2
        kick = jnp.where(near, SHOT, jnp.where(pressed & forward, PASS, action))
        return jnp.where(owns, kick, action)

    def _direction(self, state: State) -> jax.Array:
        """[2] int32, where the ball's owner ran in the last step; to the goal if it stood."""
        owns = jnp.arange(self.num_agents) == state.owner
        way = rules.chosen(state.moved, owns)
        return jnp.where(jnp.any(way != 0), way, np.array([1, 0], np.int32))

    def _kick(self, state: State, action: jax.Array, lot: jax.Array) -> jax.Array:
        """[2] int32, how far the ball flies if its owner passes or shoots."""
        mate = rules.receiver(state.positions, state.owner, self._direction(state))
        left = rules.LENGTH - state.ball[0]
        spread = (left * np.float32(self.config.shot_spread)).astype(jnp.int32)
        aside = jnp.where(state.defenders[0, 1] > 0, -rules.AIM, rules.AIM)
        aim = aside + jnp.floor(lot * (2 * spread + 1)).astype(jnp.int32) - spread
        shoots = jnp.any((jnp.arange(self.num_agents) == state.owner) & (action == SHOT))
        shot = jnp.stack([left, aim - state.ball[1]])
        runs = rules.chosen(state.moved, mate)
        passed = rules.lead(rules.chosen(state.positions, mate) - state.ball, runs)
        way = jnp.where(shoots, shot, passed)
        return rules.velocity(way, jnp.where(shoots, rules.SHOT_SPEED, rules.PASS_SPEED))

    def _defend(self, state: State) -> jax.Array:
        """[D, 2] int32, where the defenders are after their moves."""
        ball = state.ball
        keeper = rules.keeper_goal(ball, state.flight)
        field = state.defenders[1:]
        order = rules.squares(field - ball) * 16 + np.arange(len(field))
        chases = jnp.sum(order[None] < order[:, None], axis=-1) < _CHASERS
        depth, beside = _DEPTH[: len(field)], _BESIDE[: len(field)]
        line = jnp.stack(
            [
                ball[0] + ((rules.LENGTH - ball[0]) * depth >> 4),
                ball[1] - (ball[1] * depth >> 4) + beside,
            ],
            axis=-1,
        )
        goals = jnp.where(chases[:, None], ball, line)
        return jnp.concatenate(
            [
                rules.run(state.defenders[:1], keeper[None], rules.KEEPER_SPEED),
                rules.run(field, goals, self.config.defender_speed),
            ]
        )

    def _observe(self, state: State) -> Observation:
        n, length = self.num_agents, np.float32(rules.LENGTH)
        numbers = jnp.arange(n)
        owns = numbers == state.owner
        mate = (state.owner >= 0) & (state.owner < n) & ~owns
        foe, nobody = state.owner >= n, state.owner < 0
        whose = [jnp.broadcast_to(x, (n,)) for x in (nobody, owns, mate, foe)]
        ball = (state.ball - state.positions) / length
        flight = jnp.broadcast_to(state.flight / np.float32(rules.PASS_SPEED), (n, 2))
        mates = rules.by_distance(state.positions, state.positions)[:, 1:]
        foes = rules.by_distance(state.positions, state.defenders)
        others = jnp.concatenate([mates, foes], axis=1).reshape(n, -1) / length
        view = [state.positions / length, state.moved / np.float32(rules.SPEED), ball, flight]
        view += [jnp.stack(whose, axis=-1), others]
        places = jnp.concatenate([state.positions, state.defenders, state.ball[None]])
        owner = jnp.arange(-1, sum(self._sides)) == state.owner
        game = [places.reshape(-1) / length, state.moved.reshape(-1) / np.float32(rules.SPEED)]
        game += [flight[0], owner, (state.step_count / self.time_limit)[None]]
        return Observation(
            agents_view=jnp.concatenate(view, axis=-1).astype(jnp.float32),
            action_mask=owns[:, None] | (np.arange(self.num_actions) < PASS),
            global_state=jnp.concatenate(game).astype(jnp.float32),
            alive=jnp.ones((n,), bool),
            step_count=state.step_count,
        )

    def _extras(self, state: State) -> dict[str, Any]:
        return {"scored": state.scored.astype(jnp.float32)}

    @property
    def own_features(self) -> np.ndarray:
        """An agent's place and velocity, and the ball."""
        return np.tile(np.arange(self.agents_view_size) < 12, (self.num_agents, 1))

    @property
    def body_features(self) -> np.ndarray:
        """An agent's place and velocity."""
        return np.tile(np.arange(self.agents_view_size) < 4, (self.num_agents, 1))

    def _make_viewer(self) -> Viewer[State]:
        from envs.football.viewer import FootballViewer

        return FootballViewer(self.time_limit)
