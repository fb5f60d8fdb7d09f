"""Pictures of brax's walkers from the side, each beside the others wherever it has come to."""

from typing import TYPE_CHECKING, Any

import numpy as np

from envs.bridges.states import BraxState
from envs.bridges.viewer import Look, PlaneViewer, Scene, Thing
from envs.viewer import AGENT_NAMES, BLACK, BLUE, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STANDING = Look("on its feet", "o", "disc", BLUE)
FALLEN = Look("fallen", "x", "disc", GREY)
SEGMENT = Look("segment", "", "line", BLACK)

# Room for one body, in metres.
_ROOM = 2.5


class BraxViewer(PlaneViewer[BraxState]):
    """Draws the joints of all bodies, and a line from each to the one that it hangs on."""

    legend = (STANDING, FALLEN, SEGMENT)

    def __init__(self, task: str, source: Any, time_limit: int) -> None:
        """Makes the viewer.

        Args:
            task: its name.
            source: brax's environment.
            time_limit: steps of an episode, shown beside the step count.
        """
        self._task = task
        self._parents = tuple(source.sys.link_parents)
        self._time_limit = time_limit

    def scene(self, state: BraxState) -> Scene:
        """What lies where; see the base class."""
        joints = np.asarray(state.bodies.pipeline_state.x.pos)[..., [0, 2]]
        side = _ROOM * len(joints)
        things, segments = [], []
        for agent, body in enumerate(joints):
            look = FALLEN if state.fallen[agent] else STANDING
            centre = np.array([(agent + 0.5) * _ROOM - body[0, 0], 0.0])
            for joint, parent in enumerate(self._parents):
                place = body[joint] + centre
                letter = AGENT_NAMES[agent] if joint == 0 else ""
                radius = (0.03 if joint else 0.06) * _ROOM
                things.append(Thing(look, (float(place[0]), float(place[1])), radius, letter))
                if parent >= 0:
                    segments.append((place, body[parent] + centre, BLACK))
        earned = ", ".join(f"{AGENT_NAMES[i]} {x:.0f}" for i, x in enumerate(state.earned.tolist()))
        return Scene(
            title=f"brax {self._task}: {int((~state.fallen).sum())} of {len(joints)} on their feet",
            status=f"step {int(state.step_count)}/{self._time_limit}    return {earned}",
            corner=(0.0, -0.25 * side),
            side=side,
            things=things,
            shots=segments,
            note="from the side; forwards is to the right",
        )

    def decorate(self, field: "Axes", scene: Scene) -> None:
        """Draws the ground."""
        field.axhspan(scene.corner[1], 0.0, color="#E2E2E2", zorder=0)
