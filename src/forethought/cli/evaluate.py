"""`forethought evaluate`: the same diagnostics on other data."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from forethought.cli.explain import explain
from forethought.cli.show import print_metrics
from forethought.errors import InputError, expected_one_of
from forethought.results import read_results

CHANGEABLE = ("task", "evaluation", "hardware", "seed", "solve_threshold")


def evaluate(arguments: list[str]) -> int:
    if not arguments:
        raise InputError("evaluate: expected the folder of a run, then KEY=VALUE")
    folder, overrides = Path(arguments[0]), arguments[1:]
    results = read_results(folder)
    if results is None:
        raise InputError(f"{folder}: has no results.json; expected the folder of a finished run")
    config = override(results.config, overrides)
    from forethought.run import evaluate_run

    report, path = evaluate_run(folder, config, overrides)
    print_metrics(report["metrics"])
    share = report["held_out_share"]
    print(f"{report['rows']} rows, {share:.1%} of them held out from training by construction")
    print(f"written to {path}")
    return 0


def override(config: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """
    Raises:
        InputError: a key that the run has not, or that would make it another run.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(words)
    except HydraException as error:
        raise explain(error) from None
    changed = deepcopy(config)
    for each in overrides:
        _change(changed, each)
    return changed


def _change(config: dict[str, Any], override: Override) -> None:
    word, key = override.input_line, override.key_or_group
    *parents, last = key.split(".")
    plain = override.type is OverrideType.CHANGE and not override.is_sweep_override()
    if not plain or [*parents, last][0] not in CHANGEABLE:
        raise InputError(f"{word}: expected KEY=VALUE with a key under {', '.join(CHANGEABLE)}")
    node: dict[str, Any] = config
    for parent in parents:
        below = node.get(parent)
        node = below if isinstance(below, dict) else {}
    if last not in node:
        siblings = [name for name in node if name not in ("_target_", "label")]
        raise InputError(f"{word}: no such key; {expected_one_of(siblings, last)}")
    if isinstance(node[last], dict):
        raise InputError(f"{word}: {key} is no single value; expected {key}.KEY=VALUE")
    node[last] = override.value()
