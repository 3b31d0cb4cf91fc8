"""Synthetic sweeps of every size for the pictures of the report, without training."""

from collections.abc import Iterable
from itertools import pairwise, product
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from reports import make_run

from forethought.results import Example, Results

OBJECTIVES = tuple(path.stem for path in (Path(__file__).parents[1] / "conf/objective").glob("*.yaml"))
LONG = "data/a_folder_with_a_long_name/graphs_of_the_second_experiment/variant_{}/test_rows.txt"
BUDGET, EVERY, BATCH = 5000, 250, 64


def draw_star(degree: int, length: int) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the drawing of a path-star graph and its arms from the start node."""
    arms = [["0", *(str(1 + arm * (length - 1) + i) for i in range(length - 1))] for arm in range(degree)]
    edges = [list(edge) for arm in arms for edge in pairwise(arm)]
    return {"edges": edges, "start": "0", "goal": arms[0][-1]}, arms


def simulate(
    objective: str,
    seed: int = 0,
    degree: int = 2,
    length: int = 5,
    horizon: int | None = None,
    settings: dict[str, Any] | None = None,
) -> Results:
    """Return a run. The baseline takes the shortcut; fewer seeds solve a harder graph, and later."""
    random = Random(f"{objective} {degree} {length} {horizon} {seed}")
    strength = 0.9 - Random(objective).random() + 0.15 * ((horizon or 3) - (degree + length - 5))
    solved = objective != "next_token" and random.random() < strength
    step = (
        min(BUDGET - EVERY, EVERY * random.randint(2, 2 + round(12 / max(strength, 0.5)))) if solved else None
    )
    chance = 1 / degree
    end = 1.0 if solved else chance if objective == "next_token" or random.random() < 0.8 else 0.01
    numbers = range(1, length + 1)
    metrics = {"test/accuracy": end, "test/decision_accuracy": end}
    metrics |= {"test/chance": chance, "test/decision_chance": chance}
    metrics |= {"test/error_wrong_arm": 0.8 * (1 - end), "test/error_broken_edge": 0.2 * (1 - end)}
    metrics |= {"test/error_late": 0.0, "test/error_other": 0.0}
    metrics |= {f"test/token_accuracy_{i}": 1.0 if i == 1 else end for i in numbers}
    if objective != "teacherless":
        metrics |= {f"test/forced_token_accuracy_{i}": end if i == 2 else 0.999 for i in numbers}
        metrics |= {"test/forced_local_accuracy": 0.999}
    drawing, arms = draw_star(degree, length)
    answer, outcome = (arms[0], "right") if solved else (arms[1], "wrong_arm")
    example = Example(
        text=f"{degree}x{length}", truth=arms[0], answer=answer, outcome=outcome, drawing=drawing
    )
    config = {"task.degree": degree, "task.path_length": length, "task.label": f"{degree}x{length}"}
    config |= {"objective.horizon": horizon} if horizon else {}
    steps = step + EVERY if step else BUDGET
    width = 3 * degree * (length - 1) + 2 + length
    flops = 1e9 if objective == "next_token" else 2e9
    return make_run(
        "solved" if solved else "shortcut" if end == chance else "undertrained",
        seed,
        objective,
        config | (settings or {}),
        cell=f"{objective}-{degree}x{length}-h{horizon}-{hash(str(settings)) % 10**8}-s{seed}",
        metrics=metrics,
        steps=steps,
        samples_seen=steps * BATCH,
        steps_to_solve=step,
        training_flops=steps * flops,
        flops_to_solve=step and step * flops,
        examples=[example],
        grad_flow=[
            [
                0.8 ** (width - length + row - column)
                * (objective != "myopic" or column == width - length + row)
                if column <= width - length + row
                else 0.0
                for column in range(width)
            ]
            for row in range(length)
        ],
        attention={
            name: [[0.1, 0.4 * random.random()] for _ in range(3)]
            for name in ("goal", "predecessor", "first_hop")
        },
        probes=[[random.random() for _ in range(length)] for _ in range(width - length + 1)],
        gradient_split=[
            [0.5 + 0.1 * layer, (objective != "myopic") * random.random() * (3 - layer), 2.0, 0.3]
            for layer in range(4)
        ],
    )


def simulate_curves(run: Results) -> list[dict[str, float]]:
    """Return a plateau at chance, and a jump to 1 where the run solves the task."""
    random = Random(run.cell)
    rows = []
    for step in range(EVERY, run.steps + 1, EVERY):
        plateau = min(step / 1000, 1) * run.metrics["test/chance"] + random.uniform(-0.03, 0.03)
        share = 1.0 if run.steps_to_solve and step >= run.steps_to_solve else max(0.0, plateau)
        rows.append({"step": float(step), "train/loss": 200 / step})
        rows[-1] |= {"val/accuracy": share, "val/decision_accuracy": min(1.0, 1.1 * share)}
    return rows


def save_sweep(folder: Path, runs: Iterable[Results]) -> Path:
    for run in runs:
        cell = folder / run.cell
        cell.mkdir(parents=True)
        (cell / "results.json").write_text(run.model_dump_json())
        pd.DataFrame(simulate_curves(run)).to_csv(cell / "metrics.csv", index=False)
    return folder


def make_card(
    degrees: Iterable[int] = (2, 3, 5),
    lengths: Iterable[int] = (3, 4, 5),
    horizons: Iterable[int] = (1, 2, 3, 4),
    seeds: int = 3,
) -> list[Results]:
    """Return the sweep of the design card. `next_token` has no horizon."""
    variants = [("next_token", None), *product(("multi_token", "next_latent"), horizons)]
    return [
        simulate(objective, seed, degree, length, horizon)
        for (objective, horizon), degree, length, seed in product(variants, degrees, lengths, range(seeds))
    ]


SWEEPS = {
    "1": lambda: [simulate("next_token")],
    "2-objectives": lambda: [simulate(o, s) for o in ("next_token", "token_order") for s in range(5)],
    "6": lambda: [
        simulate(o, s, d)
        for o in ("next_token", "teacherless", "token_order")
        for d in (2, 3)
        for s in range(4)
    ],
    "16": lambda: [
        simulate(o, s, d, n)
        for o in ("next_token", "teacherless", "token_order", "belief_state")
        for d, n, s in product((2, 3), (3, 5), range(3))
    ],
    "36": lambda: [
        simulate(o, s, d, n)
        for o in ("next_token", "teacherless", "token_order", "belief_state")
        for d, n, s in product((2, 3, 5), (3, 4, 5), range(3))
    ],
    "80": make_card,
    "all-objectives": lambda: [simulate(o, s, 2, 5) for o in OBJECTIVES for s in range(5)],
    "all-objectives-9-graphs": lambda: [
        simulate(o, s, d, n) for o in OBJECTIVES for d, n, s in product((2, 3, 5), (3, 4, 5), range(2))
    ],
    "horizon": lambda: [
        simulate(o, s, 3, 4, h)
        for o, h in [("next_token", None), *product(("multi_token", "next_latent"), (1, 2, 3, 4))]
        for s in range(5)
    ],
    "long": lambda: [
        simulate(o, s, settings={"task.edge_order": LONG.format(v), "task.reverse": v == "a"})
        for o in ("next_token", "lookahead_insertion")
        for v, s in product("abc", range(3))
    ],
}
"""A function that returns the runs, by the number of settings or by what is special about them."""
