"""The root keys of the config: the protocol of one run."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from forethought.validation import validated_dataclass


@validated_dataclass
class EvaluationSettings:
    """Rows and decoding of the evaluations; see conf/config.yaml."""

    validation_samples: PositiveInt
    test_samples: PositiveInt
    temperature: NonNegativeFloat


@validated_dataclass
class Settings:
    """How long, how often and how random; see conf/config.yaml."""

    seed: NonNegativeInt
    sweep: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    max_steps: PositiveInt
    batch_size: PositiveInt
    eval_every: PositiveInt
    log_every: PositiveInt
    solve_threshold: Annotated[float, Field(gt=0, le=1)]
    stop_when_solved: bool
    init_from: str | None
    evaluation: EvaluationSettings
    dry_run: bool
    replicas: PositiveInt = 1
