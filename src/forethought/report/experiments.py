"""Membership of runs in experiments, and what they change of these."""

import re
from typing import Any

import pandas as pd

from forethought.published import Values, accepts
from forethought.results.frame import format_value
from forethought.sweeps import NOT_IDENTITY

_OVERRIDE = re.compile(r"(?:^|\s)[+~]*([\w./]+)=(.*?)(?=\s[+~]*[\w./]+=|$)")


def list_experiments(runs: pd.DataFrame) -> pd.Series:
    """Return the list of each run's experiments. Of several, `experiment=[a,b]`, the config has no choice.

    A results file (docs/results) names all the experiments that compose a run, with spaces between them.
    """
    names = [
        chosen.split() if isinstance(chosen, str) else _list_given(_read_overrides(words))
        for chosen, words in runs.reindex(columns=["experiment", "overrides"]).itertuples(index=False)
    ]
    return pd.Series(names, index=runs.index, dtype=object)


def list_deviations(run: pd.Series, experiment: str, rows: list[Values]) -> list[str]:
    """Return what a run changes of its experiment: `max_steps=100`. Empty if nothing that counts.

    The run is compared with the row of the experiment that is nearest to it. The seed is free, and so are
    keys that are not part of a run's identity.

    Args:
        rows: of `experiment` (`read_protocol`).
    """
    overrides = _read_overrides(run.get("overrides"))
    several = _list_given(overrides) if overrides.get("experiment", "").startswith("[") else []
    further = [f"experiment={name}" for name in several if name != experiment]
    changes = []
    for row in rows:
        own = {key: format_value(run[key]) for key in row if key in run and not _is_free(key)}
        changes.append(
            [
                f"{key}={text}"
                for key, text in own.items()
                # A choice may lack the key, such as next_token the horizon.
                if (text != "null" or key in overrides) and not accepts(row[key], text)
            ]
            + [f"{key}={text}" for key, text in overrides.items() if key not in row and not _is_free(key)]
        )
    # A row of another choice, such as objective=next_token, is farther away than any number of values.
    return further + min(
        changes, key=lambda words: (sum("." not in w.split("=")[0] for w in words), len(words))
    )


def _read_overrides(words: Any) -> dict[str, str]:
    """Return the values of KEY=VALUE words by key. Missing words are none."""
    return dict(_OVERRIDE.findall(words)) if isinstance(words, str) else {}


def _list_given(overrides: dict[str, str]) -> list[str]:
    """Return the names in `experiment=a` or `experiment=[a,b]`."""
    return [name for name in overrides.get("experiment", "").strip("[]").split(",") if name]


def _is_free(key: str) -> bool:
    return key.split(".")[0].split("/")[0] in NOT_IDENTITY | {"seed", "experiment"}
