"""Entry points: train, evaluate, plot; and the tasks' own options in `configs`."""
