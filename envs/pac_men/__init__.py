"""Pac-Men: four agents from the centre of a maze collect the dots of four rooms."""

from envs.pac_men.env import PacMen, PacMenConfig, SparsePacMen, SparsePacMenConfig, State

__all__ = ["PacMen", "PacMenConfig", "SparsePacMen", "SparsePacMenConfig", "State"]
