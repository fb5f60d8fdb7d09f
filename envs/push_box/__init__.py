"""Push-Box, a sparse task of ALITA and EDTI: two agents push a box to the wall, both at once."""

from envs.push_box.env import PushBox, PushBoxConfig, State

__all__ = ["PushBox", "PushBoxConfig", "State"]
