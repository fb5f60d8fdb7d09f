"""Windy Maze of EOI: a dot at either end of a T, and a wind that blows to the right."""

from envs.windy_maze.env import State, WindyMaze, WindyMazeConfig

__all__ = ["State", "WindyMaze", "WindyMazeConfig"]
