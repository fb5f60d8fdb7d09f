"""Firefighters: four agents with one water tank, two burning areas and two rivers."""

from envs.firefighters.env import Firefighters, FirefightersConfig, State

__all__ = ["Firefighters", "FirefightersConfig", "State"]
