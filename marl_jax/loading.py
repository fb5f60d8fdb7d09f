"""What a run was made of, and what it learned, from its folder or a file."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from envs.configuration import ConfigurationError, whole_number
from envs.files import user_path
from envs.registry import make as make_env
from marl_jax import methods, teams
from marl_jax.policy import Policy
from marl_jax.runs import RunDirectory
from marl_jax.runtime import on_host
from marl_jax.settings import MAX_SEED, RunSettings
from marl_jax.training import RunState, Trainer

BEST = "best"
"""Name of the checkpoint of each seed's best evaluation."""

Checkpoint = int | Literal["best"] | None


def make_trainer(settings: RunSettings, *others: RunSettings) -> Trainer:
    """The training loop of a run, with its task and its method; nothing is compiled yet.

    Args:
        settings: the run.
        *others: runs that are trained with it, see `marl_jax.choices`.
    """
    env = make_env(settings.env, **dataclasses.asdict(settings.env_options))
    options = dataclasses.asdict(settings.method_options)
    method = methods.make(settings.method, env, **options)
    choices = {
        name: (value, *(getattr(other.method_options, name) for other in others))
        for name, value in options.items()
    }
    differing = {name: values for name, values in choices.items() if len(set(values)) > 1}
    return Trainer(env, method, settings.training, settings.seeds, settings.seed, differing)


def policy_of(
    trainer: Trainer, state: RunState, settings: RunSettings, seed: int | None = None
) -> Policy:
    """The team of one seed, the first by default, out of the run state of all seeds.

    Raises:
        ConfigurationError: if the run has no such seed.
    """
    seed = settings.seed if seed is None else whole_number("seed", seed, 0, MAX_SEED)
    if not settings.seed <= seed < settings.seed + settings.seeds:
        last = settings.seed + settings.seeds - 1
        raise ConfigurationError(f"seed is {seed}; it must be one of {settings.seed} to {last}.")
    index = seed - settings.seed
    learner = jax.tree.map(lambda x: x[index], state.method)
    own = dataclasses.replace(settings, seed=seed, seeds=1)
    return Policy(trainer.env, trainer.method, learner, int(state.env_steps[index]), own)


def load(run: str | Path, checkpoint: Checkpoint = None) -> tuple[Trainer, RunState, RunSettings]:
    """Loads a checkpoint of a run, on whatever devices are here; without its replay.

    Args:
        run: the run's folder.
        checkpoint: which of those in its folder `checkpoints`, 0 for the untrained teams; by default the last that is
            whole, also while the run goes on. There is one after every chunk of the seeds that still went on;
            `env_steps` says how far each was. "best" is each seed as it was at its best evaluation, by the task's
            headline or by the return; its optimiser is left out, and what it scored then is too good to report.

    Raises:
        ConfigurationError: if the folder is not a run, its checkpoint is damaged, or there is none of that number.
    """
    directory = RunDirectory.open(run)
    settings = directory.settings()
    if isinstance(checkpoint, str) and checkpoint == BEST:
        trainer = make_trainer(settings)
        return trainer, load_best(directory, trainer), settings
    newest = directory.latest_checkpoint()
    if checkpoint is not None:
        checkpoint, kept = whole_number("checkpoint", checkpoint), directory.checkpoints.steps()
        if checkpoint not in kept:
            best = [BEST] if directory.best.is_file() else []
            raise ConfigurationError(
                f"checkpoint is {checkpoint!r}; {run} holds {', '.join([*map(str, kept), *best])}."
            )
    trainer = make_trainer(settings)
    like = trainer.abstract_state()._replace(replay=None)
    if checkpoint is not None:
        return trainer, directory.checkpoints.restore(checkpoint, like), settings
    step, state = directory.checkpoints.restore_newest(like)
    if step < newest:
        warnings.warn(
            f"checkpoint {newest} of {run} is damaged; this is {step}, the newest that is whole",
            stacklevel=2,
        )
    return trainer, state, settings


def load_best(directory: RunDirectory, trainer: Trainer) -> RunState:
    """Each seed as it was at its best evaluation, [S, ...]: without rows beyond the seeds.

    Raises:
        ConfigurationError: if there is no such checkpoint, it cannot be read or it has other sizes.
    """
    if not directory.best.is_file():
        raise ConfigurationError(
            f"{directory.path} has no best checkpoint: nothing was evaluated yet."
        )
    arrays, _ = teams.read(directory.best)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((trainer.num_seeds, *x.shape[1:]), x.dtype),
        trainer.abstract_state(),
    )
    template = {"learner": teams.kept(like.method), "env_steps": like.env_steps}
    found = teams.like(template, arrays, str(directory.best))
    keys = jax.vmap(jax.random.key)(np.arange(trainer.num_seeds))
    zeros: Any = np.zeros(trainer.num_seeds, np.int32)
    return RunState(teams.put(like.method, found["learner"]), None, keys, zeros, found["env_steps"])


def load_team(team: str | Path) -> Policy:
    """Loads a team: one that comes with the library, such as "turn/liir", or the file that `Policy.save` has written.

    Raises:
        ConfigurationError: if there is no such team, or its file is damaged.
    """
    return Policy.load(teams.file_of(team))


def load_policy(run: str | Path, seed: int | None = None, checkpoint: Checkpoint = None) -> Policy:
    """Loads the team of one seed of a run, the first by default.

    Args:
        run: the run's folder.
        seed: which team.
        checkpoint: as for `load`.

    Raises:
        ConfigurationError: if the folder is not a run, its checkpoint is damaged, or it has no such seed or checkpoint.
    """
    trainer, state, settings = load(run, checkpoint)
    return policy_of(trainer, state, settings, seed)


def start_from(source: str, trainer: Trainer) -> dict[str, Any]:
    """What all seeds' learners take over from trained teams: seed s from team s modulo the number of teams.

    Args:
        source: a run, whose failed seeds are left out, or a team's file or name.
        trainer: whose learners start from them.

    Returns:
        By field of a learner's state, arrays [R, ...].

    Raises:
        ConfigurationError: if there is no such run or team, or it has other sizes.
    """
    if (user_path("init_from", source) / "config.json").is_file():
        _, state, settings = load(source)
        failed = RunDirectory.open(source).failures()
        healthy = np.array([i for i in range(settings.seeds) if settings.seed + i not in failed])
        if not healthy.size:
            raise ConfigurationError(f"init_from is {source}; all of its seeds failed.")
        arrays = teams.arrays_of(on_host(teams.kept(state.method)))
    else:
        healthy = np.zeros(1, int)
        arrays = {name: x[None] for name, x in teams.read(teams.file_of(source))[0].items()}
    like = jax.eval_shape(trainer.method.init, jax.random.key(0))
    if not hasattr(like, "params"):
        raise ConfigurationError(
            f"init_from is {source}; it needs a method whose state has a field params, as all registered ones have."
        )
    template = {name: x for name, x in teams.kept(like).items() if name in teams.LEARNED}
    # By its number, not its place: a seed must not depend on its neighbours.
    rows = healthy[trainer.row_seeds % healthy.size]
    return teams.like(template, arrays, f"init_from {source}", rows)
