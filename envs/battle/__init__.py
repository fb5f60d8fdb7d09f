"""Battle of EOI, after MAgent: a team of soldiers against enemies that a script plays."""

from envs.battle.env import Battle, BattleConfig
from envs.battle.state import State

__all__ = ["Battle", "BattleConfig", "State"]
