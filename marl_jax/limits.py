"""What a run may ask for: what fits the task, 32 bits and the memory."""

from envs.configuration import LARGEST, ConfigurationError
from marl_jax.loading import make_trainer, start_from
from marl_jax.memory import kept
from marl_jax.rollout import record_size
from marl_jax.runtime import memory_size
from marl_jax.settings import RunSettings
from marl_jax.training import Trainer

ABSOLUTE_FACTOR = 10
"""How many times more episodes the final evaluation plays."""


def check_settings(settings: RunSettings, *others: RunSettings) -> None:
    """Refuses what does not fit, before anything is written.

    Args:
        settings: of a run.
        *others: of runs that are trained with it by one program.

    Raises:
        ConfigurationError: if the options do not fit the task, the teams to start from have other sizes, steps cannot
            be counted, or what the seeds keep or play is more than the memory (to train them takes somewhat more).
    """
    trainer = make_trainer(settings, *others)
    have = memory_size(trainer.mesh)
    if have is not None:
        _check_episodes(trainer, have)
    _check_steps(trainer)
    each = sum(kept(trainer).values())
    if have is not None and each * trainer.num_rows > have:
        choices = f" in each of {1 + len(others)} choices" * bool(others)
        raise ConfigurationError(
            f"seeds is {settings.seeds}{choices}; each keeps {each / 1e9:.3g} GB of parameters, replay and tables, "
            f"and the memory has {have / 1e9:.3g} GB, enough for {int(have / each)}."
        )
    if settings.init_from is not None:
        start_from(settings.init_from, trainer)


def _check_steps(trainer: Trainer) -> None:
    """Refuses more environment steps than 32 bits count, with the chunk that a seed may take beyond its budget.

    Raises:
        ConfigurationError: if there are.
    """
    interval, total = trainer.eval_interval, trainer.config.total_steps
    if interval > LARGEST[int] // 2:
        raise ConfigurationError(
            f"eval_interval is {trainer.config.eval_interval}; it must be at most {LARGEST[int] // 2}, in whole "
            f"iterations of {trainer.steps_per_iteration:,} steps."
        )
    most = (LARGEST[int] // interval - 1) * interval
    if total > most:
        raise ConfigurationError(
            f"total_steps is {total}; with {interval:,} steps between evaluations it must be at most {most}, since "
            "steps are counted in 32 bits."
        )


def _check_episodes(trainer: Trainer, have: int) -> None:
    """Refuses more episodes than there is memory for, of `have` bytes: of an iteration, or of the final evaluation.

    Raises:
        ConfigurationError: if there are.
    """
    env, at_once = trainer.env, trainer.seeds_at_once
    episodes = trainer.method.num_episodes
    need = at_once * record_size(env, episodes)
    if need > have:
        raise ConfigurationError(
            f"num_envs is {trainer.method.num_envs}; {episodes} episodes of up to {env.time_limit} steps for each of "
            f"{at_once} seeds at once take {need / 1e9:.3g} GB, and the memory has {have / 1e9:.3g} GB."
        )
    # Rewards and whether a step counts, at each step.
    each = at_once * env.time_limit * (4 * env.num_agents + 1)
    asked, most = trainer.config.eval_episodes, have // (ABSOLUTE_FACTOR * each)
    if asked > most:
        need = ABSOLUTE_FACTOR * asked * each
        raise ConfigurationError(
            f"eval_episodes is {asked}; {ABSOLUTE_FACTOR} times as many at the end take {need / 1e9:.3g} GB, and the "
            f"memory has {have / 1e9:.3g} GB, enough for {most}."
        )
