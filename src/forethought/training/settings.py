"""The root keys of the config: the protocol of one run."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from forethought.validation import validated_dataclass


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"sweep={name}: expected a name of letters, digits, _, . and -, for a folder")
    return name


# More is a slip of the finger, and would end in a lack of memory.
Rows = Annotated[int, Field(gt=0, le=10_000_000)]


@validated_dataclass
class EvaluationSettings:
    """Rows and decoding of the evaluations; see conf/config.yaml."""

    validation_samples: Rows
    test_samples: Rows
    temperature: NonNegativeFloat


@validated_dataclass
class Settings:
    """How long, how often and how random; see conf/config.yaml."""

    seed: NonNegativeInt
    sweep: Annotated[str, AfterValidator(_folder_name)]
    max_steps: PositiveInt
    batch_size: Rows
    eval_every: PositiveInt
    log_every: PositiveInt
    solve_threshold: Annotated[float, Field(gt=0, le=1)]
    stop_when_solved: bool
    init_from: Annotated[str, Field(min_length=1)] | None
    evaluation: EvaluationSettings
    dry_run: bool
    replicas: PositiveInt = 1
    optimized_metric: str = "val/accuracy"  # runs from before there was a search have none
