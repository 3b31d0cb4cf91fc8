"""The schema of a YAML file of published numbers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from forethought.results.frame import format_value

Scalar = str | int | float | bool | None
SOLVE_RATE = "solve_rate"
"""Metric of a table whose values are shares of solved seeds."""

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
_Text = Annotated[str, StringConstraints(min_length=1)]
_Count = Annotated[int, Field(gt=0)]


class PublishedCell(BaseModel):
    """One published number. Every key that is no field selects runs: `objective`, `task.degree`."""

    model_config = _STRICT

    value: float = Field(description="a share from 0 to 1, or a number in the unit of the metric")
    plus_minus: Annotated[float, Field(ge=0)] | None = Field(
        None, description="uncertainty of the value itself, as of a bar read off a figure; null: the table's"
    )
    metric: _Text | None = Field(None, description="null: the table's")
    seeds: _Count | None = Field(None, description="runs behind the value; null: the table's")
    test_samples: _Count | None = Field(None, description="rows behind the value; null: the table's")
    keys: dict[str, Scalar] = Field(description="columns of `load_sweep` and their values")
    small: dict[str, Scalar] | None = Field(
        None, description="the same for runs of the small sibling; null: the keys of the cell"
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_keys(cls, entries: Any) -> Any:
        if not isinstance(entries, dict):
            return entries
        fields = {name: entries[name] for name in cls.model_fields.keys() & entries.keys() - {"keys"}}
        return fields | {"keys": {key: entries[key] for key in entries if key not in fields}}

    @property
    def label(self) -> str:
        """The selection as text: `multi_token horizon=2 degree=3`."""
        words = []
        for key, value in self.keys.items():
            text = format_value(value)
            is_name = "." not in key and isinstance(value, str)
            words.append(text if is_name else f"{key.rpartition('.')[2]}={text}")
        if self.metric is not None:
            words.append(self.metric.removeprefix("test/"))
        return " ".join(words)


class PublishedTable(BaseModel):
    """The numbers of one table or figure, of one grade of evidence."""

    model_config = _STRICT

    experiment: _Text | None = Field(
        None, description="that runs it, of the paper's folder; null: of the name of the table"
    )
    source: _Text = Field(description="place in the paper, and who read it")
    grade: Literal["A", "B", "C", "M"] = Field(
        description="A: authors' code or full text; B: third party, or digitised; C: digest; M: memory"
    )
    metric: _Text | None = Field(
        description="column of `load_sweep` or `solve_rate`; null: none of ours fits"
    )
    seeds: _Count | None = Field(description="runs behind each value; null: not said")
    test_samples: _Count | None = Field(description="rows behind each value; null: not said")
    plus_minus: Annotated[float, Field(ge=0)] = 0.0
    cells: Annotated[list[PublishedCell], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, entries: Any) -> Any:
        """Give each cell what it does not say itself, but for the metric, which its label would repeat."""
        if not isinstance(entries, dict) or not isinstance(entries.get("cells"), list):
            return entries
        shared = {name: entries[name] for name in ("seeds", "test_samples", "plus_minus") if name in entries}
        cells = [shared | cell if isinstance(cell, dict) else cell for cell in entries["cells"]]
        return entries | {"cells": cells}

    def metric_of(self, cell: PublishedCell) -> str | None:
        return cell.metric or self.metric

    @model_validator(mode="after")
    def _check_cells(self) -> "PublishedTable":
        seen = set()
        for cell in self.cells:
            metric = self.metric_of(cell)
            is_share = metric == SOLVE_RATE or "accuracy" in (metric or "")
            if is_share and not 0 <= cell.value <= 1:
                raise ValueError(f"value={cell.value:g}: out of range; use a share from 0 to 1")
            if not cell.keys:
                raise ValueError(f"value={cell.value:g}: selects no runs; use keys, such as objective")
            if cell.label in seen:
                raise ValueError(f"{cell.label}: duplicate cell; use each selection once")
            seen.add(cell.label)
        return self


class Paper(BaseModel):
    """All numbers of one paper, in `PAPER.yaml`."""

    model_config = _STRICT

    name: str = Field(description="name of the file, and of the folder of its experiments")
    paper: _Text = Field(description="authors and year")
    title: _Text | None = Field(description="null: not known, or no paper")
    arxiv: Annotated[str, StringConstraints(pattern=r"^\d{4}\.\d{5}$")] | None = None
    url: _Text | None = Field(None, description="of a source that is not on arXiv")
    tables: Annotated[dict[str, PublishedTable], Field(min_length=1)]

    def experiment(self, table: str, *, small: bool = False) -> str:
        """Return the name of the experiment that runs a table, whether or not it exists."""
        return f"{self.name}/{self.tables[table].experiment or table}{'_small' * small}"
