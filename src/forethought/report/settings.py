"""Swept parameters of a DataFrame of runs, and labels made from them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from forethought.report.names import shorten_names
from forethought.results.columns import OBJECTS, PROVENANCE
from forethought.results.frame import format_value
from forethought.sweeps import NOT_IDENTITY

# These keys name a run or the place of its execution and do not change its results. An experiment is a
# name for settings that are compared individually.
_IGNORED = NOT_IDENTITY | {"seed", "experiment"}


Row: TypeAlias = Mapping[Any, Any] | pd.Series
"""A row of a DataFrame, by column."""


def list_choice_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that name the chosen config of a group: `objective`, `model`."""
    return [name for name in _between(frame, "seed", "overrides") if "/" not in name and name not in _IGNORED]


def list_metric_columns(frame: pd.DataFrame) -> list[str]:
    return list(frame.columns[frame.columns.get_loc(OBJECTS[-1]) + 1 :])


def list_setting_columns(frame: pd.DataFrame) -> list[str]:
    """Return the choices and the fields of the config that can change the results of a run."""
    fields = _between(frame, PROVENANCE[-1], OBJECTS[0])
    return list_choice_columns(frame) + [
        name
        for name in fields
        # The chosen file determines `_target_`; other fields determine `label` (`2x4`).
        if name.split(".")[0] not in _IGNORED and not re.search(r"(^|\.)(_|label$)", name)
    ]


def _between(frame: pd.DataFrame, first: str, last: str) -> list[str]:
    return list(frame.columns[frame.columns.get_loc(first) + 1 : frame.columns.get_loc(last)])


def find_varying_keys(frame: pd.DataFrame) -> list[str]:
    """Return the parameters that distinguish the settings of a sweep, the objective first.

    A field varies only if it differs among runs with the same choice of its config group: the name of the
    objective already says that one objective has a field and another lacks it. A field that no run sets on
    the command line is omitted if the listed parameters determine it (`num_nodes: ${…}`). A field that all
    runs set to `${seed}` goes with the seed: runs that differ in it are the seeds of one setting.
    """
    choices = list_choice_columns(frame)
    names = list_setting_columns(frame)
    # A run that failed before its config was read has no fields, and says nothing about what varies.
    informative = frame[names[len(choices) :]].notna().any(axis=1) | (frame["status"] == "finished")
    texts = frame.loc[informative, names].map(format_value)
    texts = texts.loc[:, texts.nunique() > 1]
    overridden = re.findall(r"(?:^|\s)[+~]*([\w.]+)=", " ".join(dict.fromkeys(frame["overrides"])))
    ordered = dict.fromkeys(["objective", *choices, *overridden, *names])
    of_seed = set.intersection(
        *(set(re.findall(r"(?:^|\s)[+~]*([\w.]+)=\$\{seed\}", words)) for words in frame["overrides"])
    )
    keys: list[str] = []
    for key in (name for name in ordered if name in texts and name not in of_seed):
        group = [key.split(".")[0]] if "." in key else []
        if not _determine(texts, group, key) and (
            key in overridden or key in choices or not _determine(texts, keys, key)
        ):
            keys.append(key)
    return keys


def list_conditions(frame: pd.DataFrame, keys: Sequence[str], key: str) -> list[str]:
    """Return the columns that a comparison of the levels of a swept parameter must hold fixed.

    These are all settings but those of the parameter's own config group, and the other swept parameters of
    that group: the unswept ones may follow from the parameter (`num_nodes: ${…}`). An objective is compared
    together with its own options.
    """
    group = key.split(".")[0]
    own = [name for name in keys if name.split(".")[0] == group and name != key != "objective"]
    others = [name for name in [*list_setting_columns(frame), *keys] if name.split(".")[0] != group]
    return [name for name in dict.fromkeys([*others, *own]) if frame[name].nunique(dropna=False) > 1]


def _determine(texts: pd.DataFrame, by: Sequence[str], key: str) -> bool:
    """Return True if runs that agree in the columns `by` also agree in the column `key`."""
    given = [name for name in by if name in texts]
    if not given:
        return False  # Only columns with several values are passed.
    return bool((texts.groupby(given)[key].nunique() == 1).all())


def format_label(values: Row, keys: Sequence[str], choices: Sequence[str], complete: bool = False) -> str:
    """Return a label, `next_token reverse=true`: choices by name, fields by the last part of their key.

    A flag that is off and a missing value are omitted, unless the label is `complete` or would be
    empty without them.
    """
    texts = {key: format_value(values[key]) for key in keys}
    included = [key for key in keys if complete or texts[key] not in ("false", "null")]
    included = included or [key for key in keys if texts[key] == "false"] or [*keys]
    names = dict(zip(keys, shorten_names(keys), strict=True))
    return " ".join(texts[key] if key in choices else f"{names[key]}={texts[key]}" for key in included)
