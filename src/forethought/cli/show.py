"""Text about runs for the terminal."""

import sys
from pathlib import Path
from typing import Any

from forethought.results import Results, list_strangers, wandb_folder


def one_line(results: Results) -> str:
    """Return the outcome of a cell in a few words."""
    if results.status != "finished":
        return f"{results.status}: {results.reason}"
    reached = ", ".join(
        f"{name} {results.metrics[f'test/{name}']:.3f}"
        for name in ("accuracy", "creativity")
        if f"test/{name}" in results.metrics
    )
    line = f"{results.verdict}, {reached}, {results.steps} steps, {results.wall_seconds:.0f} s"
    schedule = results.config.get("optimizer", {}).get("schedule", "constant")
    if results.verdict != "solved" and schedule != "constant":
        line += f"; unsolved under a {schedule} rate: may be a matter of the schedule"
    return line


def print_results(results: Results, folder: Path) -> None:
    print(f"{folder}\n{one_line(results)}")
    print_metrics(results.metrics)


def print_metrics(metrics: dict[str, float]) -> None:
    """Print per-position accuracies as a small table, and every other metric on its own line."""
    names = ("test/token_accuracy_", "test/forced_token_accuracy_", "test/forced_loss_")
    length = sum(name.startswith(names[0]) for name in metrics)
    print("answer token   free-running   teacher-forced   loss")
    for position in range(1, length + 1):
        values = (metrics.get(f"{name}{position}") for name in names)
        free, forced, loss = ("-" if value is None else f"{value:.4f}" for value in values)
        print(f"{position:>12}   {free:>12}   {forced:>14}   {loss}")
    for name, value in metrics.items():
        if not name.startswith(names):
            # The likelihood of a whole answer may be far below the fourth decimal.
            form = ".1e" if 0 < abs(value) < 1e-4 else ".4f"
            print(f"{name:<30} {value:{form}}")


def print_examples(examples: list[dict[str, Any]]) -> None:
    """Print answers to prompts that are texts, each once. Of a graph, the report has a picture."""
    shown = [
        f"{example['text']}\n  {example['outcome']}: {' '.join(example['answer'])}"
        for example in examples
        if example["drawing"] is None
    ]
    for lines in dict.fromkeys(shown):
        print(lines)


def print_wandb_commands(folder: Path) -> None:
    """Print how to look at the W&B runs of a sweep or of a single run, and how to send those not sent yet."""
    runs = wandb_folder(folder)
    if any(runs.glob("*run-*-*/*.wandb")):
        print(f"W&B on this machine: wandb leet {runs}")
    if any(not any(path.parent.glob("*.synced")) for path in runs.glob("offline-run-*/*.wandb")):
        print(f"  not sent yet: wandb sync {runs}/offline-run-*")


def print_strangers(folder: Path) -> None:
    """Name the folders of runs that lie in the folder of a sweep and do not belong to it."""
    for line in list_strangers(folder):
        print(line, file=sys.stderr)
