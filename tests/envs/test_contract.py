"""What every world promises, and that `check_environment` notices each broken promise."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jumanji.testing.env_not_smoke import (
    check_env_does_not_smoke,
    check_env_specs_does_not_smoke,
)
from jumanji.types import StepType
from jumanji.wrappers import (
    AutoResetWrapper,
    JumanjiToGymWrapper,
    MultiToSingleWrapper,
    VmapAutoResetWrapper,
    VmapWrapper,
)
from PIL import Image

import envs
from envs.base import MultiAgentEnv, Observation
from envs.pursuit_1d import Pursuit1D, State
from tests.envs.rollouts import random_policy, rollout

WORLDS = [
    ("turn", {}),
    ("turn", {"time_limit": 1, "punish_trapped_eat": False}),
    ("pac_men", {}),
    ("pac_men", {"variant": "cds", "size": "small"}),
    ("pac_men", {"terminate_when_empty": True, "dots_per_room": 1, "time_limit": 60}),
    ("sparse_pac_men", {}),
    ("windy_maze", {}),
    ("windy_maze", {"time_limit": 1, "stem": 1, "arm": 1, "wind_probability": 1.0}),
    ("firefighters", {}),
    ("firefighters", {"terminate_when_out": True, "observe_tank": True, "fires_per_area": 1}),
    ("push_box", {}),
    ("push_box", {"variant": "cmae"}),
    ("push_box", {"terminate_on_success": False, "observation": "coordinates"}),
    ("secret_room", {}),
    ("secret_room", {"variant": "cmae"}),
    ("secret_room", {"random_start": True, "door_open_steps": 8, "observation": "one_hot"}),
    ("battle", {}),
    ("battle", {"respawn": False, "enemy_noise": 0.2, "num_agents": 3, "map_size": 12}),
    ("battle", {"variant": "magent", "map_size": 16, "time_limit": 200}),
    ("battle", {"variant": "magent", "map_size": 12, "time_limit": 50, "self_play": True}),
    ("football", {}),
    ("football", {"num_agents": 2, "num_defenders": 1, "time_limit": 30, "tackle": 1.0}),
    ("pursuit_1d", {}),
    ("pursuit_1d", {"time_limit": 60, "clip": 10, "terminate_at_target": True}),
]


def first_or_slow(index: int) -> Any:
    """A world; its variants are left to the schedule."""
    name, options = WORLDS[index]
    quick = not options
    marks = [] if quick else [pytest.mark.slow]
    return pytest.param(name, options, marks=marks, id=f"{name}-{index}")


every_world = pytest.mark.parametrize(
    ("name", "options"), [first_or_slow(i) for i in range(len(WORLDS))]
)
# Sparse Pac-Men is Pac-Men with another reward.
NAMES = [n for n in envs.own_names() if n != "sparse_pac_men"]
every_name = pytest.mark.parametrize("name", NAMES)
# What wrappers and viewers make of a world hardly depends on which it is; the contract holds the rest for all. The
# clock of the one ends an episode, that of the other cuts it off.
two_names = pytest.mark.parametrize(
    "name",
    [
        name if name in ("turn", "pursuit_1d") else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMES
    ],
)


def test_every_world_is_under_test() -> None:
    assert {name for name, _ in WORLDS} == set(envs.own_names())


@every_world
def test_the_contract(name: str, options: dict[str, Any]) -> None:
    envs.check_environment(envs.make(name, **options), jax.random.key(0))


@two_names
def test_jumanjis_own_checks(name: str) -> None:
    env = envs.make(name)
    check_env_does_not_smoke(env)
    check_env_specs_does_not_smoke(env)


@every_name
def test_a_class_says_what_it_is(name: str) -> None:
    cls = type(envs.make(name))
    assert cls.__doc__ is not None
    for word in ("action_mask", "Reward", "float32", "int32", "Observation", "global_state", "[S]"):
        assert word in cls.__doc__, f"the docstring of {cls.__name__} does not mention {word}"


@two_names
def test_vmap_equals_a_loop(name: str) -> None:
    env = envs.make(name, time_limit=30)
    states, timesteps, actions = rollout(env, random_policy(env), 3, seed=4)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    reset_keys = [jax.random.split(key)[0] for key in jax.random.split(jax.random.PRNGKey(4), 3)]
    for i, key in enumerate(reset_keys):
        state, timestep = reset(key)
        for t in range(env.time_limit + 1):
            if t > 0:
                state, timestep = step(state, actions[i, t - 1])
            expected = jax.tree.map(lambda x, at=(i, t): x[at], (states, timesteps))
            jax.tree.map(np.testing.assert_array_equal, (state, timestep), expected)


@two_names
def test_step_is_pure(name: str) -> None:
    env = envs.make(name)
    state, _ = env.reset(jax.random.PRNGKey(0))
    before = jax.device_get(state)
    action = env.scripted_action(state)
    first, second = env.step(state, action), env.step(state, action)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state))


@two_names
def test_typed_and_raw_keys_give_the_same_episode(name: str) -> None:
    env = envs.make(name)
    _, typed = env.reset(jax.random.key(7))
    _, raw = env.reset(jax.random.PRNGKey(7))
    jax.tree.map(np.testing.assert_array_equal, typed, raw)


@two_names
def test_scripted_actions_are_legal(name: str) -> None:
    env = envs.make(name)
    state, _ = env.reset(jax.random.PRNGKey(0))
    action = env.scripted_action(state)
    assert action.dtype == jnp.int32
    env.action_spec.validate(action)


@two_names
def test_auto_reset_starts_a_different_episode(name: str) -> None:
    env = AutoResetWrapper(envs.make(name, time_limit=3), next_obs_in_extras=True)
    reset, step, script = jax.jit(env.reset), jax.jit(env.step), jax.jit(env.scripted_action)
    state, timestep = reset(jax.random.PRNGKey(0))
    starts = [np.asarray(state.key)]
    for t in range(1, 16):
        state, timestep = step(state, script(state))
        assert bool(timestep.last()) == (t % 3 == 0)
        if timestep.last():
            assert int(timestep.observation.step_count) == 0
            assert int(timestep.extras["next_obs"].step_count) == 3
            starts.append(np.asarray(state.key))
    assert len(np.unique(np.stack(starts), axis=0)) > 2


@two_names
def test_vmap_wrappers(name: str) -> None:
    for wrapper in (VmapWrapper, VmapAutoResetWrapper):
        env = wrapper(envs.make(name, time_limit=2))
        state, _ = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 5))
        step = jax.jit(env.step)
        action = jnp.zeros((5, env.num_agents), jnp.int32)
        for _ in range(2):
            state, timestep = step(state, action)
        assert timestep.reward.shape == (5, env.num_agents)
        assert timestep.last().all()
        assert env.render(state).dtype == np.uint8


@two_names
def test_gym_through_a_single_reward(name: str) -> None:
    ours = envs.make(name, time_limit=2)
    env = JumanjiToGymWrapper(MultiToSingleWrapper(ours, reward_aggregator=jnp.mean))
    observation, info = env.reset(seed=1)
    shape = (ours.num_agents, ours.agents_view_size)
    assert observation["agents_view"].shape == shape
    assert env.observation_space["agents_view"].shape == shape
    assert env.action_space.contains(env.action_space.sample())
    _, reward, terminated, truncated, after = env.step(env.action_space.sample())
    assert isinstance(reward, float)
    assert not terminated
    assert not truncated
    _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    assert terminated == ours.time_limit_is_termination
    assert truncated
    assert set(after) == set(info)


@two_names
def test_a_picture(name: str) -> None:
    env = envs.make(name)
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    picture = env.render(state)
    assert picture.shape == (env.viewer.height, env.viewer.width, 3)
    assert picture.dtype == np.uint8
    assert picture.max() == 255
    assert picture.std() > 5, "the picture is blank"
    later, _ = jax.jit(env.step)(state, jax.jit(env.scripted_action)(state))
    assert (env.render(later) != picture).any()


@two_names
def test_an_animation(name: str, tmp_path: pathlib.Path) -> None:
    env = envs.make(name)
    state, _ = jax.jit(env.reset)(jax.random.PRNGKey(0))
    states = [state]
    step, script = jax.jit(env.step), jax.jit(env.scripted_action)
    for _ in range(4):
        states.append(step(states[-1], script(states[-1]))[0])
    path = tmp_path / "episode.gif"
    env.animate(states, str(path), frames_per_second=4.0)
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.n_frames == 5
        assert image.size == (env.viewer.width, env.viewer.height)
        assert image.info["duration"] == 250
        assert image.info["loop"] == 0
        frames = []
        for i in range(5):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


@two_names
def test_what_cannot_be_drawn_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    env = envs.make(name)
    state, _ = env.reset(jax.random.PRNGKey(0))
    for wrong in ("missing/episode.gif", "episode.mp4"):
        with pytest.raises(envs.ConfigurationError, match=r"a \.gif file in a folder"):
            env.animate([state], str(tmp_path / wrong))
    with pytest.raises(ValueError, match="states is empty"):
        env.animate([], str(tmp_path / "episode.gif"))
    with pytest.raises(ValueError, match="must be above 0"):
        env.animate([state], str(tmp_path / "episode.gif"), frames_per_second=0.0)
    batch, _ = jax.vmap(env.reset)(jax.random.split(jax.random.PRNGKey(0), 2))
    with pytest.raises(ValueError, match="batch of states"):
        env.render(batch)
    assert list(tmp_path.iterdir()) == []


# --- Broken worlds: each breaks one promise, and check_environment must name it. ---


class Broken(Pursuit1D):
    """1D Pursuit with a fault: functions that spoil what reset or step returns."""

    spoil_reset: Callable[..., Any] = staticmethod(lambda state, timestep: (state, timestep))
    spoil_step: Callable[..., Any] = staticmethod(lambda state, timestep: (state, timestep))
    may_end_early = True

    def _setup(self) -> None:
        super()._setup()
        self.ends_early = self.may_end_early

    def reset(self, key: jax.Array) -> Any:
        return self.spoil_reset(*super().reset(key))

    def step(self, state: Any, action: jax.Array) -> Any:
        if not isinstance(state, State):
            state = State(*([*dataclasses.astuple(state), jnp.int32(0)][:6]))
        return self.spoil_step(*super().step(state, action))


def on_timestep(**changes: Callable[[Any], Any]) -> Callable[..., Any]:
    """Replaces fields of the time step; each change is a function of the time step."""
    return lambda state, timestep: (
        state,
        timestep.replace(**{name: change(timestep) for name, change in changes.items()}),
    )


def on_observation(**changes: Callable[[Observation], Any]) -> Callable[..., Any]:
    """The same for fields of the observation."""
    return on_timestep(
        observation=lambda timestep: timestep.observation._replace(
            **{name: change(timestep.observation) for name, change in changes.items()}
        )
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Keyless:
    step_count: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Countless:
    key: jax.Array


def at_step(number: int, then: Any, otherwise: Any, step_count: jax.Array) -> jax.Array:
    return jnp.where(step_count == number, then, otherwise)


LAST_ONE = StepType.LAST

BROKEN: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "no key": (
        {"reset": lambda state, timestep: (Keyless(state.step_count), timestep)},
        "the state has no field 'key'",
    ),
    "no step_count": (
        {"reset": lambda state, timestep: (Countless(state.key), timestep)},
        "the state has no field 'step_count'",
    ),
    "state changes its type": (
        {
            "step": lambda state, timestep: (
                dataclasses.replace(state, values=state.values.astype(jnp.float32)),
                timestep,
            )
        },
        "the state's structure, shapes or types change in step",
    ),
    "extras come and go": (
        {"reset": on_timestep(extras=lambda timestep: {})},
        "extras differ between reset and step",
    ),
    "extras are no scalars": (
        {
            "reset": on_timestep(extras=lambda timestep: {"x": jnp.zeros(2)}),
            "step": on_timestep(extras=lambda timestep: {"x": jnp.zeros(2)}),
        },
        "extras holds something other than scalars",
    ),
    "observation changes its shape": (
        {"step": on_observation(agents_view=lambda o: o.agents_view[:, :1])},
        "the observation's shapes or types differ between reset and step",
    ),
    "a number out of scale": (
        {
            "step": on_observation(
                global_state=lambda o: at_step(3, 5.5, o.global_state, o.step_count)
            )
        },
        "global_state holds a number of size 5.5, networks want at most 5: divide it by its range",
    ),
    "alive of a wrong shape": (
        {
            "reset": on_observation(alive=lambda o: o.alive[:1]),
            "step": on_observation(alive=lambda o: o.alive[:1]),
        },
        "ObservationSpec is not met",
    ),
    "mask of a wrong shape": (
        {
            "reset": on_observation(action_mask=lambda o: o.action_mask[:, :2]),
            "step": on_observation(action_mask=lambda o: o.action_mask[:, :2]),
        },
        r"action_mask has shape \(2, 2\), expected \(2, 3\)",
    ),
    "observation against its spec": (
        {
            "reset": on_observation(agents_view=lambda o: o.agents_view[:, :1]),
            "step": on_observation(agents_view=lambda o: o.agents_view[:, :1]),
        },
        "ObservationSpec is not met",
    ),
    "one reward for all": (
        {"step": on_timestep(reward=lambda timestep: timestep.reward[0])},
        "reward is not met",
    ),
    "one discount for all": (
        {"step": on_timestep(discount=lambda timestep: timestep.discount[0])},
        "discount is not met",
    ),
    "first step is not first": (
        {"reset": on_timestep(step_type=lambda timestep: StepType.MID)},
        "reset does not give a first time step",
    ),
    "reward at reset": (
        {"reset": on_timestep(reward=lambda timestep: timestep.reward + 1)},
        "the reward is not 0 at reset",
    ),
    "discount at reset": (
        {"reset": on_timestep(discount=lambda timestep: timestep.discount * 0)},
        "the discount is not 1 at reset",
    ),
    "clock starts at 1": (
        {"reset": on_observation(step_count=lambda o: o.step_count + 1)},
        "step_count is not 0 at reset",
    ),
    "never ends": (
        {"step": on_timestep(step_type=lambda timestep: StepType.MID)},
        "an episode went on past time_limit",
    ),
    "clock stands still": (
        {"step": on_observation(step_count=lambda o: jnp.minimum(o.step_count, 5))},
        "step_count does not count the steps|past time_limit",
    ),
    "view is not finite": (
        {
            "step": on_observation(
                agents_view=lambda o: at_step(3, jnp.nan, o.agents_view, o.step_count)
            )
        },
        "agents_view is not finite",
    ),
    "global state is not finite": (
        {
            "step": on_observation(
                global_state=lambda o: at_step(3, jnp.inf, o.global_state, o.step_count)
            )
        },
        "global_state is not finite",
    ),
    "reward is not finite": (
        {
            "step": on_timestep(
                reward=lambda t: at_step(3, -jnp.inf, t.reward, t.observation.step_count)
            )
        },
        "reward is not finite",
    ),
    "nothing is legal in the middle": (
        {
            "step": on_observation(
                action_mask=lambda o: at_step(3, False, o.action_mask, o.step_count)
            )
        },
        "an agent has no legal action",
    ),
    "nothing is legal at reset": (
        {"reset": on_observation(action_mask=lambda o: o.action_mask & False)},
        "an agent has no legal action",
    ),
    "discount before the end": (
        {"step": on_timestep(discount=lambda t: t.discount * 0.9)},
        "the discount is not 1 before the end",
    ),
    "early end without termination": (
        {
            "step": on_timestep(
                step_type=lambda t: at_step(4, LAST_ONE, t.step_type, t.observation.step_count)
            )
        },
        "an end before time_limit has a discount other than 0",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_promise_is_named(fault: str) -> None:
    spoils, sentence = BROKEN[fault]

    class World(Broken):
        spoil_reset = staticmethod(spoils.get("reset", Broken.spoil_reset))
        spoil_step = staticmethod(spoils.get("step", Broken.spoil_step))

    with pytest.raises(AssertionError, match=sentence):
        envs.check_environment(World(), jax.random.PRNGKey(0), num_episodes=2)


def test_a_time_limit_said_to_be_a_termination_must_be_one() -> None:
    class World(Broken):
        time_limit_is_termination = True
        spoil_step = staticmethod(on_timestep(discount=lambda t: jnp.ones_like(t.discount)))

    with pytest.raises(AssertionError, match="the end at time_limit has a discount other than 0"):
        envs.check_environment(World(), jax.random.PRNGKey(0), num_episodes=2)


def test_a_world_said_never_to_end_early_must_not() -> None:
    spoils, _ = BROKEN["early end without termination"]

    class World(Broken):
        may_end_early = False
        spoil_step = staticmethod(spoils["step"])

    with pytest.raises(AssertionError, match="ends_early is False, but an episode ended before"):
        envs.check_environment(World(), jax.random.PRNGKey(0), num_episodes=2)


def test_chance_from_outside_the_key_is_noticed() -> None:
    calls = iter(range(1, 1000))

    class World(Broken):
        spoil_step = staticmethod(on_timestep(reward=lambda t: t.reward + next(calls)))

    with pytest.raises(AssertionError, match="two runs with the same key differ"):
        envs.check_environment(World(), jax.random.PRNGKey(0), num_episodes=2)


def test_what_follows_the_end_does_not_matter() -> None:
    class World(Broken):
        spoil_step = staticmethod(
            lambda state, t: on_observation(
                agents_view=lambda o: jnp.where(o.step_count > 4, jnp.nan, o.agents_view)
            )(
                *on_timestep(
                    step_type=lambda t: at_step(4, LAST_ONE, t.step_type, t.observation.step_count),
                    discount=lambda t: at_step(4, 0.0, t.discount, t.observation.step_count),
                )(state, t)
            )
        )

    envs.check_environment(World(), jax.random.PRNGKey(0), num_episodes=2)


def test_raw_numbers_can_be_asked_for() -> None:
    world = envs.make("push_box", observation="cells", box_low=8, time_limit=2)
    with pytest.raises(AssertionError, match="agents_view holds a number of size"):
        envs.check_environment(world, jax.random.key(0), num_episodes=1)
    envs.check_environment(world, jax.random.key(0), num_episodes=1, largest=15.0)


def test_the_sound_world_behind_the_broken_ones_passes() -> None:
    envs.check_environment(Broken(), jax.random.PRNGKey(0), num_episodes=2)


def test_a_world_without_a_script_cannot_be_made() -> None:
    class Unfinished(MultiAgentEnv[State]):
        Config = Pursuit1D.Config

    with pytest.raises(TypeError, match="scripted_action"):
        Unfinished()  # type: ignore[abstract]


def test_the_whole_range_of_time_limits_is_finite() -> None:
    with pytest.raises(envs.ConfigurationError):
        envs.make("turn", time_limit=math.inf)
