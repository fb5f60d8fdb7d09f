"""Turn, the didactic game of CIA: two agents eat apples, one at a time."""

from envs.turn.env import State, Turn, TurnConfig

__all__ = ["State", "Turn", "TurnConfig"]
