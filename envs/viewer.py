"""Pictures and animations of states.

Matplotlib and Pillow are imported only when something is drawn.
"""

import abc
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from envs.files import gif_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, which stay apart for every common kind of colour blindness.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"

AGENT_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

StateT = TypeVar("StateT")

_DOTS_PER_INCH = 100
_LAST_FRAME = 1500  # milliseconds


class Viewer(abc.ABC, Generic[StateT]):
    """Draws the states of one world. A subclass implements `draw` and `text`.

    It uses no display and none of pyplot's global figures, so any number of viewers may work side
    by side.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    width: ClassVar[int] = 480
    height: ClassVar[int] = 540

    @abc.abstractmethod
    def draw(self, figure: "Figure", state: StateT) -> None:
        """Draws a state onto an empty figure.

        Args:
            figure: of `width` x `height` pixels.
            state: one state, its arrays as NumPy arrays.
        """

    @abc.abstractmethod
    def text(self, state: StateT) -> str:
        """Draws a state for a terminal: lines of at most 80 characters, the same number every time.

        Args:
            state: one state, without a batch axis.
        """

    def render(self, state: StateT) -> np.ndarray:
        """Draws one state.

        Args:
            state: one state, without a batch axis.

        Returns:
            [height, width, 3] uint8, red, green and blue.

        Raises:
            ValueError: if the state has a batch axis.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        state = one_state(state)
        size = (self.width / _DOTS_PER_INCH, self.height / _DOTS_PER_INCH)
        figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        self.draw(figure, state)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]

    def animate(
        self, states: Iterable[StateT], path: str | Path, frames_per_second: float = 5.0
    ) -> None:
        """Writes an animated GIF that repeats for ever and rests on its last frame.

        Successive states that look the same share a frame, which is shown for as long as all of
        them.

        Args:
            states: the states of one episode, in order.
            path: of the file, a .gif, which is overwritten.
            frames_per_second: states shown a second; a GIF counts time in hundredths of a second.

        Raises:
            ConfigurationError: if `path` is no .gif file in a folder that exists.
            ValueError: if there are no states, or `frames_per_second` is not above 0.
            OSError: if the file cannot be written.
        """
        from PIL import Image

        target = gif_path("path", path)
        if not frames_per_second > 0:
            raise ValueError(f"frames_per_second is {frames_per_second!r}; it must be above 0.")
        frames = [Image.fromarray(self.render(state)) for state in states]
        if not frames:
            raise ValueError("states is empty; an animation needs at least one.")
        duration = max(10, round(1000 / frames_per_second))
        frames[0].save(
            target,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=[duration] * (len(frames) - 1) + [max(duration, _LAST_FRAME)],
            loop=0,
        )


class FieldsViewer(Viewer[StateT]):
    """Lists the fields of a state, and those of what is in it, for a world that has no viewer of its own."""

    def draw(self, figure: "Figure", state: StateT) -> None:
        """Draws one state; see the base class."""
        figure.text(0.03, 0.97, self.text(state), va="top", family="monospace", fontsize=9)

    def text(self, state: StateT) -> str:
        """Draws a state for a terminal; see the base class."""
        state = one_state(state)
        leaves = jax.tree_util.tree_leaves_with_path(state)
        values = {jax.tree_util.keystr(path).removeprefix("."): x for path, x in leaves}
        return "\n".join(
            f"{name}: " + np.array2string(value, max_line_width=56, threshold=40, precision=3)
            for name, value in values.items()
            if isinstance(value, np.ndarray) and name.rpartition(".")[2] != "key"
        )


def one_state(state: StateT) -> StateT:
    """A state with NumPy arrays for JAX arrays.

    Raises:
        ValueError: if it has a batch axis.
    """
    if np.ndim(state.step_count) != 0:  # type: ignore[attr-defined]
        raise ValueError(
            "this is a batch of states; draw one of them: jax.tree.map(lambda x: x[0], states)."
        )
    return jax.tree.map(_to_numpy, state)


def _to_numpy(x: Any) -> Any:
    """Arrays as NumPy arrays; typed random keys, which NumPy does not know, as they are."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    return np.asarray(x)
