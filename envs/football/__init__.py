"""EOI's football: ten agents attack a goal that a scripted team defends."""

from envs.football.env import Football, FootballConfig
from envs.football.state import State

__all__ = ["Football", "FootballConfig", "State"]
