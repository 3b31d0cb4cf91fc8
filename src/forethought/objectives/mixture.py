"""Mixture: a weighted list of objectives that train one model, in one pass where they can."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, ValidationError
from torch import Tensor, nn

from forethought.errors import Impossible, InputError, expected_one_of
from forethought.models import Model
from forethought.objectives.added_loss import AddedLoss, States
from forethought.objectives.base import Answer, Objective, Prefix, Prompt
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import as_typed, explain_validation, validated

Parts = Annotated[Sequence[str], Field(min_length=1)]
Options = Mapping[str, Mapping[str, Any]]
_PARTS = ("next_token", "token_order", "next_latent")
_NO_OPTIONS: Options = {}


class Mixture(Objective):
    """Mixture: several objectives at once, each with a weight, on one model.

    With parts 1 … n, their weights w_i, and for each part L_i,

        loss = Σ_i w_i L_i

        `next_token`                       L_i = its loss
        an `AddedLoss` (`token_order` …)   L_i = what its loss has beside next-token prediction
        any other (`teacherless` …)        L_i = its loss

    `parts=[next_token,token_order]` is the objective `token_order`; `parts=[next_token,token_order,
    next_latent]` adds to it the latent loss, and no second next-token loss. The parts of the first two
    rows share one pass of the model, others take one each.

    The first part decodes and gives the logits of the answer. It should train the model's output layer.

    Source: a sum of losses is what most objectives are; the weight of TOP's is that of Zuhri et al.,
    "Predicting the Order of Upcoming Tokens Improves Language Modeling" (2508.19228), §3.

    Args:
        parts: names of objectives, as after `objective=`.
        weights: w_i, in the order of `parts`; None: 1 for each.
        options: of parts, by name.

    Raises:
        Impossible: the weights are not as many as the parts, or all 0; a part is not possible here.
        InputError: a part does not exist, comes twice or rejects an option.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        parts: Parts = _PARTS,
        weights: Sequence[NonNegativeFloat] | None = None,
        options: Options = _NO_OPTIONS,
    ) -> None:
        super().__init__(model, task)
        listed = f"[{','.join(parts)}]"
        self.weights = [1.0] * len(parts) if weights is None else weights
        if len(self.weights) != len(parts) or not any(self.weights):
            raise Impossible(
                f"objective.weights={as_typed(weights)}: expected {len(parts)} weights, not all 0, in the "
                f"order of objective.parts={listed}"
            )
        for name in options.keys() - {*parts}:
            raise InputError(f"objective.options.{name}: not among the parts; {expected_one_of(parts, name)}")
        built = {name: _build(name, options.get(name, {}), model, task) for name in parts}
        if len(built) < len(parts):
            raise InputError(f"objective.parts={listed}: a part comes twice; name it once")
        self.parts = nn.ModuleDict(built)
        self.teacher_forced = self._first.teacher_forced
        self.next_token_layout = self._first.next_token_layout

    @classmethod
    @validated
    def extra_positions(
        cls, task: Any, parts: Parts = _PARTS, options: Options = _NO_OPTIONS, **_: Any
    ) -> int:
        return max(_find(name).extra_positions(task, **options.get(name, {})) for name in parts)

    @property
    def _first(self) -> Objective:
        first: Any = next(iter(self.parts.values()))
        return first

    @property
    def left_to_right(self) -> bool:
        return self._first.left_to_right

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        weights: dict[Any, float] = dict(zip(self.parts.values(), self.weights, strict=True))
        for part in weights:
            part.steps = self.steps
        sharing = [part for part in weights if isinstance(part, AddedLoss) or type(part) is NextToken]
        terms = [weights[part] * part.loss(batch) for part in weights if part not in sharing]
        if sharing:
            states = States(self, batch, {getattr(part, "needs", "answer") for part in sharing})
            for part in sharing:
                adds = isinstance(part, AddedLoss)
                loss = part.added_loss(states, batch) if adds else part.answer_loss(states.logits, batch)
                terms.append(weights[part] * loss)
        return torch.stack(terms).sum()

    def answer_logits(self, batch: Batch) -> Float[Tensor, "B A V"]:
        return self._first.answer_logits(batch)

    def decode(
        self, prompt: Prompt, length: int, prefix: Prefix | None = None, temperature: float = 0.0
    ) -> Answer:
        return self._first.decode(prompt, length, prefix, temperature)

    def diagnostics(self, batch: Batch, task: Task) -> dict[str, Float[Tensor, " B"]]:
        return self._first.diagnostics(batch, task)


def _find(name: str) -> type[Objective]:
    """
    Raises:
        InputError: no objective has this name.
    """
    objectives = import_module("forethought.objectives")  # imports this module
    kinds = [getattr(objectives, kind) for kind in objectives.__all__]
    named = {kind.__module__.rpartition(".")[2]: kind for kind in kinds if kind not in (Objective, Mixture)}
    if name not in named:
        raise InputError(f"objective.parts={name}: no such objective; {expected_one_of(named, name)}")
    found: type[Objective] = named[name]
    return found


def _build(name: str, options: Mapping[str, Any], model: Model, task: Task) -> Objective:
    kind, key = _find(name), f"objective.options.{name}"
    accepted = [option for option in inspect.signature(kind).parameters if option not in ("model", "task")]
    for option in options.keys() - {*accepted}:
        raise InputError(f"{key}.{option}: no such option; {expected_one_of(accepted, option)}")
    try:
        return kind(model, task, **options)
    except ValidationError as error:
        raise explain_validation(error, key) from None
