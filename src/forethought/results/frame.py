"""Results of sweeps as pandas DataFrames: one row a run, or one row a logged step."""

import re
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from forethought.errors import InputError
from forethought.results.cells_file import RunTable, read_cells
from forethought.results.columns import IDENTITY, OBJECTS, PROVENANCE
from forethought.results.schema import MEASURES, Results
from forethought.results.store import collect

_CURVES_FILE = "metrics.csv"


def load_sweep(*sources: str | Path, curves: bool = False) -> pd.DataFrame:
    """Load the runs of sweeps or single runs as a DataFrame with one row a run.

    Columns, from left to right: `cell sweep folder status verdict reason seed`; the chosen config of each
    group (`objective`); `overrides` and `device`; the fields `MEASURES` and `PROVENANCE`; the config with
    dotted keys (`task.degree`); the objects of each run; the metrics (`test/accuracy`). A missing value and
    `null` are NaN.

    Args:
        sources: folders of sweeps or runs, and CSV files of runs (`read_cells`), which have no folder. If
            a file has a run of the same sweep and cell as another source, its `sweep` is its path.
        curves: return one row a logged step instead: cell, folder, and the columns of `metrics.csv`.

    Raises:
        InputError: a folder has no results, or a file is corrupt.
    """
    runs: dict[Path, Results] = {}
    files: dict[Path, RunTable] = {}
    for source in map(Path, sources):
        if source.is_file() or source.suffix == ".csv":
            files[source] = read_cells(source)
            continue
        collected = collect(source)
        if not collected:
            raise InputError(f"{source}: no results; pass the folder of a sweep or of a run")
        runs |= collected
    _name_duplicates(runs, files)
    frame = _join([_tabulate(runs.items()), *files.values()])
    return load_curves(frame) if curves else frame


def build_frame(runs: Iterable[tuple[Path | None, Results]]) -> pd.DataFrame:
    """Return the DataFrame of `load_sweep` for results in memory, each with its folder if it has one."""
    return _join([_tabulate(runs)])


def _tabulate(runs: Iterable[tuple[Path | None, Results]]) -> RunTable:
    runs = list(runs)
    records = [_build_record(folder, run) for folder, run in runs]
    choices = dict.fromkeys(key for _, run in runs for key in run.choices)
    return RunTable(records, [*choices], [name for _, run in runs for name in run.metrics])


def _name_duplicates(runs: dict[Path, Results], files: dict[Path, RunTable]) -> None:
    """Use the path of a file as the name of its sweep if another source has a run of the same name."""
    known = {(run.sweep, run.cell) for run in runs.values()}
    for path, file in files.items():
        names = {(record.get("sweep"), record["cell"]) for record in file.records}
        for record in file.records if names & known else ():
            record["sweep"] = str(path)
        known |= names


def _join(tables: Sequence[RunTable]) -> pd.DataFrame:
    records = [record for table in tables for record in table.records]
    metrics = {name for table in tables for name in table.metrics}
    choices = dict.fromkeys(name for table in tables for name in table.choices)
    head = [*IDENTITY, *choices, "overrides", "device", *MEASURES, *PROVENANCE]
    config = dict.fromkeys(key for record in records for key in record)
    names = [*head, *(key for key in config if key not in {*head, *OBJECTS, *metrics})]
    names += [*OBJECTS, *sorted(metrics, key=natural_sort_key)]
    frame = pd.DataFrame(records, columns=names)
    return frame.astype(dict.fromkeys((*MEASURES, *metrics), float))


def _build_record(folder: Path | None, run: Results) -> dict[str, Any]:
    stretch = run.stretches[-1] if run.stretches else None
    provenance = {name: getattr(stretch, name, None) for name in PROVENANCE}
    provenance["versions"] = " ".join(f"{name}={version}" for name, version in run.versions.items())
    fields = {name: getattr(run, name, None) for name in (*IDENTITY, "device", *MEASURES, *OBJECTS)}
    return {
        **flatten_config(run.config),
        **fields,  # wins over config keys of the same name (seed, sweep)
        **run.choices,
        **provenance,
        **run.metrics,
        "folder": None if folder is None else str(folder),
        "overrides": " ".join(run.overrides),
    }


def flatten_config(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the config with dotted keys: `{"task": {"degree": 2}}` → `{"task.degree": 2}`.

    A list becomes text, `[1,2]`: pandas cannot group by lists.
    """
    flat: dict[str, Any] = {}
    for key, entry in config.items():
        if isinstance(entry, dict):
            flat |= flatten_config(entry, f"{prefix}{key}.")
        else:
            flat[prefix + key] = format_value(entry) if isinstance(entry, list) else entry
    return flat


def format_value(entry: Any) -> str:
    """Format a config value as on the command line. A missing value is `null`."""
    if isinstance(entry, list | tuple):
        return f"[{','.join(map(format_value, entry))}]"
    if isinstance(entry, str | dict):
        return str(entry)
    if pd.isna(entry):
        return "null"
    if isinstance(entry, float) and entry.is_integer() and abs(entry) < 1e15:
        return str(int(entry))  # pandas stores integers as floats in a column with missing values
    return str(entry).lower() if str(entry) in ("True", "False") else str(entry)


def natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Sort `token_accuracy_10` after `token_accuracy_9`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def load_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """Load the curves of the runs of `load_sweep`. Runs without a file of curves are omitted.

    Raises:
        InputError: a file is not a file of learning curves.
    """
    # Parse all files with the same header at once: pandas takes milliseconds for each call.
    files: dict[str, list[tuple[str, str, str]]] = {}
    for cell, folder in zip(runs["cell"], runs["folder"], strict=True):
        if isinstance(folder, str) and (path := Path(folder) / _CURVES_FILE).exists():
            header, _, body = path.read_text(encoding="utf-8", errors="replace").partition("\n")
            whole_rows = body.rstrip("\n") + "\n" if body else ""
            files.setdefault(header, []).append((cell, folder, whole_rows))
    tables = [_parse_curves(header, group) for header, group in files.items()]
    first = ["cell", "folder", "step"]
    curves = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=first)
    return curves[[*first, *(name for name in curves if name not in first)]]


def _parse_curves(header: str, files: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Return the rows of files with the same header, each given as cell, folder and text of its rows."""
    cells, folders, bodies = zip(*files, strict=True)
    rows = [body.count("\n") for body in bodies]
    try:
        table = pd.read_csv(StringIO(f"{header}\n{''.join(bodies)}"), dtype=float)
        if len(table) == sum(rows) and (table["step"] % 1 == 0).all():
            names = {"cell": cells, "folder": folders}
            return table.assign(**{name: pd.Index(texts).repeat(rows) for name, texts in names.items()})
    except (ValueError, KeyError):
        pass
    for file in files if len(files) > 1 else ():
        _parse_curves(header, [file])  # names the corrupt file
    path = Path(folders[0]) / _CURVES_FILE
    raise InputError(f"{path}: corrupt, no learning curves; expected numbers and a column `step`")
