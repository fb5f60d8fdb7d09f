"""Pairs of parts and backbones that no paper has: which there are, and what they are made of."""

import dataclasses
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marl_jax
from envs.base import Observation
from envs.configuration import Config, ConfigurationError
from marl_jax import methods
from marl_jax.distributions import masked_categorical
from marl_jax.hashing import count_keys, count_table, find_keys, row_keys
from marl_jax.methods.maac import RewardScale
from marl_jax.methods.off_policy import OffPolicyState
from marl_jax.methods.part import Part, part_of
from marl_jax.methods.ppo import PPO, Lesson
from marl_jax.methods.q_learner import Kept, Learning
from marl_jax.methods.recognition import Recognition
from marl_jax.replay import EpisodeReplay
from marl_jax.rollout import rollout
from tests import tiny
from tests.methods.learners import SIZES, differing, fast_jit, init, make_batch, update
from tests.methods.learners import drawn_state as drawn_value_state
from tests.methods.learners import make as make_actor_critic
from tests.methods.ppo_learners import KEY, drawn_state, episodes
from tests.methods.ppo_learners import make as make_ppo
from tests.probes import AGENTS, LIMIT, Context

SMALL_ROMA: dict[str, Any] = {
    "agent": "gru",
    "hidden_size": 6,
    "role_size": 2,
    "role_hidden": 5,
    "policy_gain": 1.0,
}
TABLE = methods.pairs()
PAIRS = [f"{p}@{b}" for p, on in TABLE.items() for b, no in on.items() if no is None]


def test_what_the_papers_have_is_in_the_table() -> None:
    for pair in ("cia@qmix", "cia@qplex", "roma@vdn", "liir@mappo", "eiti@ippo", "eoi@qmix"):
        assert pair in PAIRS
    for pair in ("eoi@mappo", "eoi@ippo", "gre@qplex", "maven@qplex", "influencer@happo"):
        assert pair in PAIRS


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "cia@vdn",
            "cia cannot stand on vdn: it teaches the credits that a mixer gives its agents",
        ),
        ("liir@happo", "liir cannot stand on happo: its gradient goes through a step"),
        ("liir@qmix", "liir cannot stand on qmix: its meta-gradient goes through"),
        ("roma@happo", "roma cannot stand on happo: it brings agents' networks"),
        ("maven@mappo", "maven cannot stand on mappo: it adds to the loss of a Q-learner"),
        ("cia@qtran", "qtran takes no parts: its loss is of several values at once"),
        ("eoi@liir_paper", "liir_paper takes no parts: its meta-gradient goes through"),
        ("eoi@alita", "alita takes no parts: it is an idea on MADDPG itself"),
        ("roma@maac", "roma cannot stand on maac: it brings agents' networks of its own"),
        ("social_influence@coma", "social_influence cannot stand on coma: its model of others"),
        ("edti@maddpg", "edti cannot stand on maddpg: it asks what states are worth"),
        ("eoi@cia", "unknown backbone 'cia'"),
        ("qmix@qmix", "unknown part 'qmix'"),
        ("gre+gre@qmix", "gre\\+gre@qmix has a part twice"),
        ("roma+maven@qmix", "2 parts that bring agents' networks of their own"),
        ("scds+cds@qmix", "scds\\+cds@qmix has scds twice, since cds builds on it"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        _ = methods.recipe(name).Config


@pytest.mark.parametrize("name", ["cia", "gre", "maven", "roma", "scds", "cds", "eoi"])
def test_a_method_is_its_part_on_its_backbone(name: str) -> None:
    """But for what the paper sets otherwise."""
    paper, pair = (methods.recipe(n) for n in (name, f"{name}@qmix"))
    assert (paper.backbone, paper.parts) == (pair.backbone, pair.parts)
    one, other = (dataclasses.asdict(recipe.Config()) for recipe in (paper, pair))
    assert {k for k in one if one[k] != other[k]} == set(paper.defaults)


@pytest.mark.parametrize(
    "name",
    [
        *("gre@qplex", "eoi@mappo", "liir+hypermarl@mappo"),
        *("eoi+eiti@coma", "eoi@central_v", "eoi+eiti@maac", "eiti+eoi@maddpg"),
    ],
)
@pytest.mark.slow
def test_pairs_train(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(methods.recipe(name).Config)}
    options = {k: v for k, v in tiny.METHOD.items() if k in fields}
    result = marl_jax.train(
        name,
        "turn",
        seeds=1,
        total_steps=tiny.CHUNK_STEPS,
        training_options=tiny.TRAINING,
        method_options=options,
        env_options=tiny.ENV,
        progress=False,
    )
    assert not result.failures
    assert result.settings.method == name


@pytest.mark.slow
def test_both_parts_pay() -> None:
    """Two parts on one core: each adds its reward to what there is, and has its own values and states."""
    both = make_ppo("eiti+eoi@ippo", table_bits=6, joint_table_bits=6, intrinsic_weight=0.5)
    state, batch = drawn_state(both), episodes()
    experience = both.experience(state, batch)
    _, reward, _ = both.rewards(state, experience)
    alone = make_ppo("eiti@ippo", table_bits=6, joint_table_bits=6)
    _, expected, _ = alone.rewards(state._replace(parts=state.parts[:1]), experience)
    told: Any = part_of(both, Recognition)
    p = told.classifier.recognition(state.parts[1].params, experience.batch)
    np.testing.assert_allclose(
        reward[..., 0], expected[..., 0] + 0.5 * p * experience.alive, rtol=1e-5
    )


def test_options_of_one_name_are_each_parts_own() -> None:
    """Two parts have an influence_weight; what only one has keeps its name."""
    name = "social_influence+eiti@ippo"
    given = {
        "social_influence_influence_weight": 0.25,
        "eiti_influence_weight": 0.75,
        "table_bits": 6,
    }
    method = make_ppo(name, **given)
    first, second = method.parts
    assert (first.config.influence_weight, second.config.influence_weight) == (0.25, 0.75)
    assert (first.config.lr, second.config.table_bits) == (method.config.lr, 6)
    assert not hasattr(method.config, "influence_weight")
    again = pickle.loads(pickle.dumps(method.config))
    assert (type(again), again) == (type(method.config), method.config)
    with pytest.raises(ConfigurationError, match="eiti_influence_weight is -1; it must be"):
        make_ppo(name, eiti_influence_weight=-1)


def test_a_parts_own_checks_hold_under_other_names() -> None:
    @dataclasses.dataclass(frozen=True)
    class Steps(Config):
        lr: float = 1.0

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.lr > 2.0:
                raise ConfigurationError("lr is above 2; it must not be.")

    class Own(Part):
        Options = Steps

    config: Any = methods.Recipe(methods.recipe("ippo").backbone, (Own,)).Config
    assert config().Own_lr == 1.0
    assert config().of_part("Own") == Steps()
    with pytest.raises(ConfigurationError, match="lr is above 2"):
        config(Own_lr=3.0)


def test_recognition_is_paid_to_the_living_and_learned() -> None:
    """On observations that tell the agents apart, the classifier comes to know them."""
    method = make_ppo("eoi@mappo", classifier_steps=200, classifier_lr=0.01, intrinsic_weight=2.0)
    state, batch = drawn_state(method), episodes()
    own = jnp.arange(AGENTS, dtype=jnp.float32)[:, None]
    batch = batch._replace(observation=jnp.zeros_like(batch.observation) + own)
    experience = method.experience(state, batch)
    _, reward, _ = method.rewards(state, experience)
    bonus = np.asarray(reward[..., 0] - experience.batch.reward)
    assert (bonus[np.asarray(experience.alive) == 0] == 0).all()
    part: Any = part_of(method, Recognition)
    before = part.classifier.recognition(state.parts[0].params, batch)
    np.testing.assert_allclose(bonus, 2.0 * before * experience.alive, rtol=1e-4, atol=1e-6)
    state, metrics = fast_jit(method.update)(state, batch, None, KEY)
    after = part.classifier.recognition(state.parts[0].params, batch)
    assert float(after.min()) > 0.9
    assert np.isfinite(float(metrics["intrinsic_ratio"]))


def test_agents_that_cannot_differ_are_refused() -> None:
    recipe: Any = methods.recipe("eoi@mappo")
    with pytest.raises(ConfigurationError, match="observe_identity is False"):
        recipe(recipe.Config(observe_identity=False), SIZES)


def test_roles_on_a_policy_are_those_that_it_acted_with() -> None:
    """What was probable when they acted is as probable when they learn, so that ratios begin at 1."""
    world = Context()
    method: Any = methods.make("roma@mappo", world, **SMALL_ROMA)
    state = fast_jit(method.init)(KEY)
    batch, _ = fast_jit(lambda s: rollout(world, method, s, KEY, 4, explore=True))(state)
    inputs = method.agent_inputs(batch.observation, batch.last_action)[:-1]
    noise = batch.extras.noise
    assert noise.shape == (*batch.action.shape, 2)
    logits = method.logits(state.params["actor"], inputs, noise)[1]
    law = masked_categorical(logits, batch.action_mask[:-1])
    valid = np.asarray(batch.valid)
    np.testing.assert_allclose(
        np.asarray(law.log_prob(batch.action))[valid],
        np.asarray(batch.extras.log_prob)[valid],
        rtol=1e-4,
        atol=1e-5,
    )
    other = method.logits(state.params["actor"], inputs, noise + 1.0)[1]
    assert np.abs(np.asarray(other - logits)).max() > 1e-3
    # What the paper looks at is there on a policy, too.
    roles = fast_jit(method.parts[0].roles)(state, batch).mean
    assert roles.shape == noise.shape
    unlike = fast_jit(method.parts[0].dissimilarities)(state, batch)
    assert unlike.shape == (*batch.action.shape, 2)


def test_romas_losses_reach_roles_and_no_critic() -> None:
    method: Any = make_ppo("roma@mappo", **SMALL_ROMA, identifiability_weight=1.0)
    state, batch = drawn_state(method), episodes()
    noise = jax.random.normal(KEY, (*batch.action.shape, 2))
    batch = batch._replace(extras=batch.extras._replace(noise=noise))
    after, metrics = fast_jit(method.update)(state, batch, None, KEY)
    assert set(after.params) == {"actor", "critic", "trajectory", "dissimilarity"}
    for name in after.params:
        assert differing(after.params[name], state.params[name]), name
    assert np.isfinite(float(metrics["specialisation_loss"]))
    assert float(metrics["role_divergence"]) > 0


@pytest.mark.parametrize("backbone", ["qmix", "mappo"])
@pytest.mark.slow
def test_hypermarls_matrices_start_orthogonal(backbone: str) -> None:
    """On average over its columns a generated matrix keeps lengths as an orthogonal one does; biases start at 0."""
    recipe: Any = methods.recipe(f"hypermarl@{backbone}")
    method = recipe(recipe.Config(generated_size=32, hidden_size=16), SIZES)
    agents = method.agents
    params = agents.init(KEY)
    gains = [gain for *_, gain in agents.shapes]
    assert gains == [2.0**0.5, 1.0 if backbone == "qmix" else 0.01]
    for (inputs, outputs, gain), layer in zip(agents.shapes, params["layers"], strict=True):
        made = agents.hypernetwork(inputs * outputs).apply(layer["weight"], params["embedding"])
        np.testing.assert_allclose(
            np.mean(np.square(made)), gain**2 / max(inputs, outputs), rtol=1e-4
        )
        assert not np.any(agents.hypernetwork(outputs).apply(layer["bias"], params["embedding"]))
    gram = params["embedding"] @ params["embedding"].T
    np.testing.assert_allclose(gram, 2.0 * np.eye(AGENTS), atol=1e-5)


@pytest.mark.slow
def test_only_hypermarls_last_layers_know_whose_they_are() -> None:
    """With one sight for all: hidden states are alike, outputs are not, and each is that agent's own layers'."""
    recipe: Any = methods.recipe("hypermarl@qmix")
    method = recipe(recipe.Config(generated_size=5, hidden_size=6, hyper_hidden=(4,)), SIZES)
    agents = method.agents
    params = agents.init(KEY)
    inputs = jnp.broadcast_to(
        jax.random.normal(KEY, (3, 1, 1, method.agent_input_size)),
        (3, 1, AGENTS, method.agent_input_size),
    )
    hidden, q = (np.asarray(x) for x in agents.unroll(params, inputs, (), KEY))
    np.testing.assert_array_equal(hidden[:, :, 0], hidden[:, :, 1])
    assert np.abs(q[:, :, 0] - q[:, :, 1]).max() > 1e-2
    for agent in range(AGENTS):
        x = hidden[:, 0, agent]
        for (num, outputs, _), layer in zip(agents.shapes, params["layers"], strict=True):
            own = params["embedding"][agent]
            made = (
                agents.hypernetwork(num * outputs).apply(layer["weight"], own).reshape(num, outputs)
            )
            x = x @ made + agents.hypernetwork(outputs).apply(layer["bias"], own)
            if outputs == 5:
                x = np.maximum(x, 0.0)
        np.testing.assert_allclose(q[:, 0, agent], x, rtol=1e-4, atol=1e-5)
    # One step at a time is the same.
    memory = method.initial_memory(None, 1, KEY).hidden
    for t in range(3):
        memory, now = agents.step(params, memory, inputs[t], (), KEY, False)
        np.testing.assert_allclose(now, q[t], rtol=1e-4, atol=1e-5)


def test_hypermarl_does_not_see_who_it_is() -> None:
    recipe: Any = methods.recipe("hypermarl@mappo")
    assert not recipe.Config().observe_identity
    with pytest.raises(ConfigurationError, match="observe_identity is True"):
        recipe(recipe.Config(observe_identity=True), SIZES)
    with pytest.raises(ConfigurationError, match="hypermarl cannot stand on happo"):
        methods.recipe("hypermarl@happo")


@pytest.mark.slow
def test_eiti_on_a_replay_pays_by_what_was_counted() -> None:
    """With one sight for all, by hand: 9 valid steps of each agent's one state, and no action that explains another."""
    recipe: Any = methods.recipe("eiti@qmix")
    method = recipe(
        recipe.Config(
            batch_size=3,
            replay_capacity=3 * LIMIT,
            update_interval=LIMIT,
            hidden_size=4,
            table_bits=8,
            joint_table_bits=8,
            curiosity_weight=2.0,
        ),
        SIZES,
    )
    batch = make_batch()
    batch = batch._replace(observation=jnp.ones_like(batch.observation), extras=Kept())
    assert int(batch.valid.sum()) == 9
    part = method.parts[0]
    empty = part.start(KEY)
    own, metrics = part.watch(None, empty, batch)
    # What was met n times before pays 1 / sqrt(n + 1); three episodes go on side by side.
    assert float(metrics["curiosity"]) > 2.0 / 3.0
    state = drawn_value_state(method, 0)._replace(parts=(own,))
    values = method.values(state.params, state.target, batch, KEY)
    nothing: Any = None
    learning = Learning(state.params, state, batch, values, nothing, nothing, KEY, nothing)
    weight, paid = part.bonus(learning)
    valid = np.broadcast_to(np.asarray(batch.valid)[..., None], paid.shape)
    np.testing.assert_allclose(weight * np.asarray(paid)[valid], 2.0 / 3.0, rtol=1e-6)
    assert not np.asarray(paid)[~valid].any()


def test_parts_on_one_backbone_draw_their_own_numbers() -> None:
    """Three parts note the keys that they are given where they pay, add to a loss, explore and learn."""
    keys: dict[str, list[jax.Array]] = {"bonus": [], "loss": [], "normal": [], "explore": []}

    class Notes(Part):
        def bonus(self, learning: Any) -> None:
            keys["bonus"].append(learning.key)
            keys["normal"].append(learning.steps.normal((LIMIT, 3, 2)))

        def loss(self, learning: Any) -> Any:
            keys["loss"].append(learning.key)
            return jnp.zeros(()), {}

        def explore(self, *given: Any) -> Any:
            keys["explore"].append(given[-1])
            return given[-2]

    kinds = (Notes, type("More", (Notes,), {}), type("Most", (Notes,), {}))
    bare: Any = methods.recipe("qmix")
    recipe: Any = methods.Recipe(bare.backbone, kinds)
    options = {"batch_size": 3, "replay_capacity": 3 * LIMIT, "update_interval": LIMIT}
    method = recipe(recipe.Config(**options, hidden_size=4), SIZES)
    state, batch = drawn_value_state(method, 0), make_batch()._replace(extras=Kept())
    method.loss(state.params, state, batch, KEY)
    seen = Observation(
        agents_view=batch.observation[0],
        global_state=batch.global_state[0],
        action_mask=batch.action_mask[0],
        alive=batch.alive[0],
        step_count=jnp.zeros((3,), jnp.int32),
    )
    method.act(state, method.initial_memory(state, 3, KEY), seen, KEY, True)
    for name, noted in keys.items():
        told = {
            np.asarray(x if name == "normal" else jax.random.key_data(x)).tobytes() for x in noted
        }
        assert len(told) == len(noted) == 3, name


def test_parts_learn_from_fresh_episodes_by_keys_of_their_own() -> None:
    keys = []

    class Learns(Part):
        def learn(self, state: Any, lesson: Any) -> Any:
            keys.append(lesson.key)
            return state, {}

    kinds = (Learns, type("More", (Learns,), {}), type("Most", (Learns,), {}))
    bare: Any = methods.recipe("ippo")
    recipe: Any = methods.Recipe(bare.backbone, kinds)
    method = recipe(recipe.Config(), SIZES)
    nothing: Any = None
    method.teach(((),) * 3, Lesson(nothing, nothing, nothing, nothing, KEY, KEY))
    # KEY itself ordered the minibatches.
    assert len({tuple(jax.random.key_data(key).tolist()) for key in (KEY, *keys)}) == 4


def test_parts_on_a_policy_start_with_parameters_of_their_own() -> None:
    class Draws(Part):
        def init(self, key: jax.Array) -> Any:
            return {self.name: jax.random.normal(key, (3,))}

    kinds = (type("One", (Draws,), {}), type("Other", (Draws,), {}))
    bare: Any = methods.recipe("ippo")
    recipe: Any = methods.Recipe(bare.backbone, kinds)
    drawn = recipe(recipe.Config(), SIZES)._own_params(KEY)
    assert differing(drawn["One"], drawn["Other"])


@pytest.mark.parametrize("name", ["liir+roma@mappo", "roma+liir@mappo"])
def test_liir_takes_the_policies_passes_once_more_wherever_it_stands(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks through the very minibatches that the policies had."""
    orders, learn = [], PPO.learn

    def noted(self: PPO, *given: Any) -> Any:
        orders.append(given[-1])
        return learn(self, *given)

    monkeypatch.setattr(PPO, "learn", noted)
    method, batch = make_ppo(name, **SMALL_ROMA, meta_gradient="all"), episodes()
    noise = jnp.zeros((*batch.action.shape, 2))
    batch = batch._replace(extras=batch.extras._replace(noise=noise))
    jax.eval_shape(method.update, drawn_state(method), batch, None, KEY)
    assert len(orders) > 1
    assert all(order is orders[0] for order in orders)


@pytest.mark.parametrize("backbone", ["maac", "maddpg"])
def test_parts_pay_for_single_steps_on_top_of_the_tasks_scaled_reward(backbone: str) -> None:
    class Pays(Part):
        def bonus(self, learning: Any) -> tuple[float, jax.Array]:
            return 2.0, 1.0 * learning.batch.action

    bare: Any = methods.recipe(backbone)
    recipe: Any = methods.Recipe(bare.backbone, (Pays,))
    one, other = (made(made.Config(), SIZES) for made in (bare, recipe))
    batch = make_batch(steps=1, lengths=(1, 1, 1))
    state = OffPolicyState({}, {}, {}, jnp.array(0), jnp.array(0), ((),))
    scale = RewardScale(jnp.array(0.5), jnp.array(2.0))
    given = (scale,) if backbone == "maac" else (None, None)
    task, paid = (method._rewards(state, batch, *given) for method in (one, other))
    np.testing.assert_allclose(paid, task + 2.0 * batch.action[0], rtol=1e-6)


@pytest.mark.slow
def test_single_steps_pay_by_what_was_counted() -> None:
    """As above, and each agent by itself: MADDPG's critics learn from the task's reward and 2 / 3."""
    recipe: Any = methods.recipe("eiti@maddpg")
    options = {"table_bits": 8, "joint_table_bits": 8, "curiosity_weight": 2.0, "reward_scale": 3.0}
    method = recipe(recipe.Config(**options), SIZES)
    batch = make_batch()
    batch = batch._replace(observation=jnp.ones_like(batch.observation))
    own, _ = method.parts[0].watch(None, method.parts[0].start(KEY), batch)
    state = OffPolicyState({}, {}, {}, jnp.array(0), jnp.array(0), (own,))
    replay = EpisodeReplay(3, LIMIT)
    steps = replay.sample_transitions(replay.add(replay.init(batch), batch), KEY, 5)
    nothing: Any = None
    paid = method._rewards(state, steps, nothing, nothing)
    np.testing.assert_allclose(paid, 3.0 * steps.reward[0] + 2.0 / 3.0, rtol=1e-6)


def test_recognition_is_paid_to_an_actor_critic_and_learned_after() -> None:
    """An update is the bare backbone's on other rewards, and then the classifier's."""
    bare: Any = make_actor_critic("iac")
    method: Any = make_actor_critic("eoi@iac", intrinsic_weight=0.7, classifier_steps=2)
    batch = make_batch()
    state = init(method, 1)
    p = method.parts[0].recognition(state, batch)
    other = batch._replace(reward=batch.reward + 0.7 * p * batch.valid[..., None])
    after, metrics = update(method, state, batch)
    expected, _ = update(bare, state._replace(parts=()), other)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        (after.params, after.optimizer),
        (expected.params, expected.optimizer),
    )
    assert differing(after.parts[0].params, state.parts[0].params)
    assert float(metrics["intrinsic_ratio"]) > 0
    assert float(metrics["intrinsic_reward"]) == pytest.approx(
        float((p * batch.valid[..., None]).sum() / (AGENTS * batch.valid.sum())), rel=1e-4
    )


def test_keys_are_found_as_they_were_counted() -> None:
    keys = row_keys(jnp.arange(40)[:, None] % 13)
    table, counts = count_keys(count_table(8), keys, jnp.ones(40, bool))
    np.testing.assert_array_equal(find_keys(table, keys), counts)
    assert not np.any(find_keys(table, row_keys(jnp.arange(100, 110)[:, None])))


def test_liir_is_the_only_part_that_pays() -> None:
    """Its meta-gradient knows of no other reward."""
    with pytest.raises(ConfigurationError, match="it must be the only one that does"):
        make_ppo("liir+social_influence@mappo")
    make_ppo("liir+roma@mappo", agent="gru")
