"""Decodings: ways to write an answer, given the model's probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from forethought.errors import Impossible
from forethought.tasks import Batch
from forethought.validation import validated_dataclass

if TYPE_CHECKING:
    from forethought.objectives import Objective

_OPTIONS: dict[str, tuple[str, ...]] = {
    "greedy": (),
    "sample": ("temperature", "top_k", "top_p"),
    "beam": ("beams",),
    "best_of_k": ("temperature", "top_k", "top_p", "samples"),
}
"""Options with an effect, by decoding."""


@validated_dataclass
class Decoding:
    """Method of writing the answers in validation and test.

    With p the model's distribution of the next token, without `$`, after prompt and own answer so far,

        greedy       at each position the likeliest token
        sample       y_i ~ p^(1/temperature), restricted to `top_k` tokens, then to `top_p`, and normalised
        beam         of all continuations of the `beams` best beginnings, the `beams` best go on
        best_of_k    the best of `samples` answers drawn as in `sample`

    Best is the highest Σ_i log p(y_i | x, y_<i) at temperature 1, without normalisation by length; of
    equal answers, the first one drawn. An answer ends with the task's end token; what follows is `$`,
    at no cost. A beam may miss the likeliest answer. It always finds it if `beams` is at least the
    number of beginnings of length A - 1.

    Cost: `greedy` and plain `sample` are the objective's own decoding, with its cache. `top_k` and `top_p`
    keep no cache: each of the A tokens costs a pass over the answer, and under `beam` one for each beam;
    also over the prompt, unless it is read once (`Objective.reads_once`). Memory is that of one pass over
    the B rows.

    Source: top-k: Fan et al. (1805.04833); top-p: Holtzman et al., "The Curious Case of Neural Text
    Degeneration" (1904.09751); temperature, top-k and top-p in the order of Hugging Face's `generate`.

    Args:
        temperature: of `sample` and `best_of_k`; None is 1. `greedy` and `beam` also accept 0.
        top_k: number of the likeliest tokens to draw from.
        top_p: in (0, 1]; the fewest tokens that hold at least this probability are drawn from.
        beams: width of `beam`; None is 4.
        samples: answers a prompt of `best_of_k`; None is 8.

    Raises:
        Impossible: an option without effect under `decoding`, or sampling at temperature 0.
    """

    decoding: Literal["greedy", "sample", "beam", "best_of_k"] = "greedy"
    temperature: NonNegativeFloat | None = None
    top_k: PositiveInt | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    beams: PositiveInt | None = None
    samples: PositiveInt | None = None

    def __post_init__(self) -> None:
        effective = _OPTIONS[self.decoding]
        for option in ("temperature", "top_k", "top_p", "beams", "samples"):
            value = getattr(self, option)
            harmless = option == "temperature" and value == 0  # as in the config of earlier runs
            if value is not None and option not in effective and not harmless:
                decodings = " or ".join(name for name, options in _OPTIONS.items() if option in options)
                raise Impossible(
                    f"evaluation.{option}={value}: no effect under evaluation.decoding={self.decoding}; "
                    f"use {decodings}, or set it to null"
                )
        if self.temperature == 0 and "temperature" in effective:
            raise Impossible(
                f"evaluation.temperature={self.temperature}: not supported by "
                f"evaluation.decoding={self.decoding}; use a value above 0, or greedy"
            )

    def check_objective(self, objective: Objective) -> None:
        """Raise `Impossible` unless the objective writes its answers as this decoding requires."""
        if objective.left_to_right:
            return
        likelihood = self.decoding if self.decoding in ("beam", "best_of_k") else None
        for option, value, instead in (
            ("decoding", likelihood, "greedy or sample"),
            ("top_k", self.top_k, "null"),
            ("top_p", self.top_p, "null"),
        ):
            if value is not None:
                raise Impossible(
                    f"evaluation.{option}={value}: not supported by this {type(objective).__name__}, "
                    f"which does not write each token from those before it alone; use {instead}"
                )

    @torch.no_grad()
    def generate(
        self,
        objective: Objective,
        prompt: Int[Tensor, "B P"],
        length: int,
        prefix: Int[Tensor, "B G"] | None = None,
    ) -> Int[Tensor, "B A"]:
        """Return answers of A = `length` tokens that begin with the prefix.

        Raises:
            Impossible: the objective does not support this decoding.
        """
        self.check_objective(objective)
        if self.decoding == "greedy":
            return objective.generate(prompt, length, prefix=prefix, temperature=0.0)
        prefix = prompt[:, :0] if prefix is None else prefix
        write = {"sample": self._sample, "beam": self._beam, "best_of_k": self._best_of_k}[self.decoding]
        return write(objective, prompt, length, prefix)

    def _sample(
        self, objective: Objective, prompt: Int[Tensor, "B P"], length: int, prefix: Int[Tensor, "B G"]
    ) -> Int[Tensor, "B A"]:
        temperature = 1.0 if self.temperature is None else self.temperature
        if self.top_k is None and self.top_p is None:
            return objective.generate(prompt, length, prefix=prefix, temperature=temperature)
        answer = F.pad(prefix, (0, length - prefix.shape[1]), value=objective.task.dummy)
        for i in range(prefix.shape[1], length):
            log_p = next_log_probabilities(objective, prompt, answer, i) / temperature
            answer[:, i] = objective.sample(self._restrict(log_p), 1.0)
        return objective.task.trim(answer)

    def _restrict(self, logits: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Return the logits with -inf for the tokens that are not drawn from."""
        if self.top_k is not None:
            least = logits.topk(min(self.top_k, logits.shape[1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p is not None:
            p, order = logits.double().softmax(1).sort(1, descending=True)
            enough = p.cumsum(1) - p >= self.top_p  # the likelier tokens hold it already
            logits = logits.masked_fill(torch.zeros_like(enough).scatter(1, order, enough), -torch.inf)
        return logits

    def _beam(
        self, objective: Objective, prompt: Int[Tensor, "B P"], length: int, prefix: Int[Tensor, "B G"]
    ) -> Int[Tensor, "B A"]:
        task, width = objective.task, 4 if self.beams is None else self.beams
        end = -1 if task.end is None else task.end
        answers = F.pad(prefix, (0, length - prefix.shape[1]), value=task.dummy)[:, None]  # (B, K, A)
        scores = torch.zeros(len(prompt), 1, device=prompt.device)
        for i in range(prefix.shape[1], length):
            # One beam at a time: all of them would take K times the memory.
            log_p = torch.stack(
                [next_log_probabilities(objective, prompt, answer, i) for answer in answers.unbind(1)], 1
            )
            ended = (answers[:, :, :i] == end).any(2, keepdim=True)
            padding = torch.zeros_like(log_p[:, :, :1]).masked_fill(~ended, -torch.inf)
            log_p = torch.cat([log_p.masked_fill(ended, -torch.inf), padding], 2)
            total = (scores[:, :, None] + log_p).flatten(1)
            scores, chosen = total.topk(min(width, total.shape[1]))  # the best first
            parents = (chosen // log_p.shape[2])[:, :, None].expand(-1, -1, length)
            answers = answers.gather(1, parents)
            answers[:, :, i] = chosen % log_p.shape[2]
        return answers[:, 0]

    def _best_of_k(
        self, objective: Objective, prompt: Int[Tensor, "B P"], length: int, prefix: Int[Tensor, "B G"]
    ) -> Int[Tensor, "B A"]:
        answers, likelihoods = [], []
        # One answer a prompt at a time: all of them would take K times the memory.
        for _ in range(8 if self.samples is None else self.samples):
            answer = self._sample(objective, prompt, length, prefix)
            logits = objective.answer_logits(Batch(prompt, answer))[..., : objective.task.dummy]
            answers.append(answer)
            likelihoods.append(-objective.cross_entropy(logits, answer, "none").sum(1))
        best = torch.stack(likelihoods).argmax(0)  # of equal ones, the first
        return torch.stack(answers)[best, torch.arange(len(prompt), device=best.device)]


GREEDY = Decoding()


def next_log_probabilities(
    objective: Objective, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B A"], i: int
) -> Float[Tensor, "B W"]:
    """Return the log-probabilities of answer token i (from 0), of all tokens but `$`."""
    logits = objective.answer_logits(Batch(prompt, answer))[:, i, : objective.task.dummy]
    return logits.log_softmax(1)
