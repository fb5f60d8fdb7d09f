"""The command `marl-jax`: `marl-jax train --method liir --env turn` is `python experiments/run.py ...`, and so on.

What a command needs is imported once it is known which: JAX takes seconds to start.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn


class Command(NamedTuple):
    """A command.

    Attributes:
        module: in `experiments`, whose `main` it is.
        does: one line for the list.
        flags: that are always given.
    """

    module: str
    does: str
    flags: tuple[str, ...] = ()


COMMANDS = {
    "train": Command("run", "train a method on a task, many seeds at once; go on with a run"),
    "evaluate": Command("evaluate", "play many episodes of a run's teams, or of a script"),
    "plot": Command("plot", "compare runs in one picture"),
    "play": Command("play", "show one episode, as text or as an animation"),
    "sweep": Command("sweep", "search options"),
    "report": Command("report", "write a page about a run, or a comparison of runs"),
    "list": Command("run", "list the methods, their parts and the tasks", ("--list",)),
    "credits": Command("credits", "draw how mixers pay agents (CIA)"),
    "individuality": Command("individuality", "draw where each agent goes (EOI)"),
    "influence": Command("influence", "draw influence, true and estimated (ALITA)"),
    "intrinsic-rewards": Command(
        "intrinsic_rewards", "draw what the learned reward pays for (LIIR)"
    ),
    "roles": Command("roles", "draw the roles of a team (ROMA)"),
    "turn-script": Command("turn_script", "play Turn with a script that sees what learners see"),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command that is named first, and exits with its status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        raise SystemExit(0)
    if name == "--version":
        print(f"marl-jax {importlib.metadata.version('marl-jax')}")
        raise SystemExit(0)
    from experiments import command

    if name not in COMMANDS:
        from envs.configuration import unknown_name

        command.fail(str(unknown_name("command", name, COMMANDS)))
    chosen = COMMANDS[name]
    # What help and messages call the program.
    sys.argv = [f"{command.PROGRAM} {name}", *chosen.flags, *rest]
    command.run(importlib.import_module(f"experiments.{chosen.module}").main)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {each.does}" for name, each in COMMANDS.items())
    return (
        "usage: marl-jax COMMAND ...\n\nTeams of agents that learn to be different from each other.\n\n"
        f"{lines}\n\nmarl-jax COMMAND --help tells more of one; marl-jax --version says which version this is."
    )


if __name__ == "__main__":
    main()
