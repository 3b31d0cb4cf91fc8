"""`forethought evaluate`: the same diagnostics on other data."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from forethought.errors import InputError

CHANGEABLE = ("task", "evaluation", "hardware", "seed", "solve_threshold")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help=f"of {', '.join(CHANGEABLE)}: task.test_file=graphs.txt, evaluation.decoding=beam",
    )


def run(options: argparse.Namespace) -> int:
    from forethought.cli.show import print_examples, print_metrics
    from forethought.config import apply_overrides
    from forethought.results import read_results

    results = read_results(options.folder)
    if results is None:
        raise InputError(f"{options.folder}: has no results.json; pass the folder of a finished run")
    from forethought.training import evaluate_run, write_evaluation
    from forethought.training.settings import EvaluationSettings

    # A run of an earlier version lacks the keys that came later.
    evaluation = asdict(EvaluationSettings()) | results.config.get("evaluation", {})
    config = apply_overrides(results.config | {"evaluation": evaluation}, options.overrides, CHANGEABLE)
    report = evaluate_run(options.folder, config, options.overrides)
    print_metrics(report["metrics"])
    print_examples(report["examples"])
    share = report["held_out_share"]
    print(f"{report['rows']} rows, {share:.1%} of them held out from training by construction")
    # Last, as the folder of another user's run is often read-only.
    print(f"written to {write_evaluation(options.folder, config, report)}")
    return 0
