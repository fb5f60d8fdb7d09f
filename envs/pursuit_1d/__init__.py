"""1D Pursuit, the toy task of LIIR: two numbers walk towards an unknown target."""

from envs.pursuit_1d.env import Pursuit1D, Pursuit1DConfig, State

__all__ = ["Pursuit1D", "Pursuit1DConfig", "State"]
