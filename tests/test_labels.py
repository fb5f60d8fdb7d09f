"""What pictures call runs."""

from experiments.command import labels


def test_runs_are_called_by_their_methods_then_their_folders_then_their_paths() -> None:
    folders = ["runs/a", "runs/b/", "runs/c", "more/c"]
    assert labels(["qmix", "eoi", "eoi", "eoi"], folders) == [
        "qmix",
        "eoi (b)",
        "eoi (runs/c)",
        "eoi (more/c)",
    ]
