"""The packages that this one needs beside it, which have names that others have, too."""

import importlib.util
from pathlib import Path


def refuse_strangers() -> None:
    """Refuses another package in the place of `envs` or `experiments`.

    Raises:
        ImportError: if there is one, with both paths.
    """
    home = Path(__file__).resolve().parents[1]
    for name in ("envs", "experiments"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        places = spec.submodule_search_locations or [spec.origin or ""]
        found = Path(next(iter(places), "")).resolve()
        if found != home / name:
            raise ImportError(
                f"another package called {name} is in the way: {found} is found before {home / name}, which marl_jax "
                "needs; rename it, or start Python where it is not on the path.",
                name=name,
            )
