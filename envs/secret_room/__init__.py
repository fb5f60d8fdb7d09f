"""Secret Room, a sparse task of ALITA and EDTI: two agents open doors for each other."""

from envs.secret_room.env import SecretRoom, SecretRoomConfig, State

__all__ = ["SecretRoom", "SecretRoomConfig", "State"]
