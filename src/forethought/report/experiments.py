"""Which runs belong to an experiment, and what they change of it."""

import re

import pandas as pd

from forethought.published import Protocol, accepts
from forethought.results.frame import format_value
from forethought.sweeps import NOT_IDENTITY

_OVERRIDE = re.compile(r"(?:^|\s)[+~]*([\w./]+)=(.*?)(?=\s[+~]*[\w./]+=|$)")


def list_experiments(runs: pd.DataFrame) -> pd.Series:
    """Return the list of each run's experiments. Of several, `experiment=[a,b]`, the config has no choice.

    A results file (docs/results) names all the experiments that compose a run, with spaces between them.
    """
    chosen = runs["experiment"] if "experiment" in runs else pd.Series(None, index=runs.index, dtype=object)
    words = runs["overrides"].fillna("") if "overrides" in runs else pd.Series("", index=runs.index)
    given = words.str.extract(r"(?:^|\s)experiment=\[?([^\]\s]+)", expand=False).str.split(",")
    return pd.Series(
        [
            name.split() if isinstance(name, str) else names if isinstance(names, list) else []
            for name, names in zip(chosen, given, strict=True)
        ],
        index=runs.index,
        dtype=object,
    )


def list_deviations(run: pd.Series, experiment: str, protocol: Protocol) -> list[str]:
    """Return what a run changes of its experiment: `max_steps=100`. Empty if nothing that counts.

    The run is compared with the row of the experiment that is nearest to it. The seed is free, and so are
    keys that are not part of a run's identity.

    Args:
        protocol: of `experiment`.
    """
    words = run.get("overrides")
    overrides = _OVERRIDE.findall(words if isinstance(words, str) else "")
    chosen = dict(overrides).get("experiment", "")
    several = chosen.strip("[]").split(",") if chosen.startswith("[") else []
    further = [f"experiment={name}" for name in several if name != experiment]
    changes = []
    for row in protocol.rows:
        own = {key: format_value(run[key]) for key in row if key in run and not _is_free(key)}
        changes.append(
            [
                f"{key}={text}"
                for key, text in own.items()
                # A choice may lack the key, such as next_token the horizon.
                if (text != "null" or key in dict(overrides)) and not accepts(row[key], text)
            ]
            + [f"{key}={text}" for key, text in overrides if key not in row and not _is_free(key)]
        )
    # A row of another choice, such as objective=next_token, is farther away than any number of values.
    return further + min(
        changes, key=lambda words: (sum("." not in w.split("=")[0] for w in words), len(words))
    )


def _is_free(key: str) -> bool:
    return key.split(".")[0].split("/")[0] in NOT_IDENTITY | {"seed", "experiment"}
