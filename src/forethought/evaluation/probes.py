"""Linear probes: what the hidden states of the prompt know of the answer before it is written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from forethought.tasks import Batch

if TYPE_CHECKING:
    from forethought.objectives import Objective

RIDGE = 1.0
_CHUNK = 1000


@torch.inference_mode()
def probe_answers(objective: Objective, fitted: Batch, tested: Batch) -> Float[Tensor, "P A"] | None:
    """Return the accuracy of a linear probe for each prompt position and each answer token.

    h is the hidden state of a prompt position after the last norm, in one pass over the prompt alone, and
    e(y) the one-hot vector of an answer token. A head for each position and token minimises

        Σ |W h + b - e(y)|² + λ |W|²,   λ = 1,   over the rows `fitted`

    in closed form and float64. The accuracy is the share of rows `tested` on which the row's own token has
    the largest entry of W h + b. Rows with padding at the position, or without the token, do not count in
    either; NaN where none is left.

    None where it has no meaning: the objective's logits do not follow the layout of next-token prediction,
    or the states of the prompt depend on what follows (`model.mask=full`).
    """
    if not objective.next_token_layout or objective.model.mask == "full":
        return None
    fitted, tested = fitted.to(objective.device), tested.to(objective.device)
    size = tested.prompt.shape[1], tested.answer.shape[1]  # `evaluate` may have put another task
    hits, counts = torch.zeros(2, *size, dtype=torch.float64, device=objective.device)
    training = objective.training
    objective.eval()
    with torch.compiler.set_stance("force_eager"):
        # Tokens that the same rows have written share a Gram matrix. If answers are equally long, all do.
        masks, group = (fitted.answer != objective.task.dummy).unique(dim=1, return_inverse=True)
        for number, written in enumerate(masks.unbind(1)):
            columns = (group == number).nonzero()[:, 0]
            weights = _fit(objective, fitted[written], columns)
            for rows, states in _read(objective, tested):
                answer = rows.answer[:, columns]
                scores = (states @ weights).unflatten(2, (len(columns), -1))[..., :-1]  # `$` is never right
                counted = states[:, :, -1:].bool() & (answer != objective.task.dummy)
                right = (scores.argmax(3) == answer) & counted
                hits[:, columns] += right.sum(1)
                counts[:, columns] += counted.sum(1)
    objective.train(training)
    return hits / counts


def name_probes(probes: Float[Tensor, "P A"] | None) -> dict[str, float]:
    """Return the accuracies at the last prompt position as metrics `test/probe_accuracy_<a>`."""
    last = [] if probes is None else probes[-1].tolist()
    return {f"test/probe_accuracy_{a}": share for a, share in enumerate(last, 1) if not math.isnan(share)}


def _fit(objective: Objective, rows: Batch, columns: Int[Tensor, " C"]) -> Float[Tensor, "P E N"]:
    """Return the weights of the heads for these answer tokens; the last row of each is the bias."""
    gram, product = torch.zeros(2, 1, dtype=torch.float64, device=objective.device)
    for part, states in _read(objective, rows):
        target = F.one_hot(part.answer[:, columns], len(objective.task.vocabulary)).flatten(1)
        gram = gram + states.mT @ states
        product = product + states.mT @ target.to(states)
    penalty = torch.full_like(gram[:, 0], RIDGE)
    penalty[:, -1] = gram[:, -1, -1] == 0  # the bias; without a row, it is 0
    return torch.linalg.solve(gram + torch.diag_embed(penalty), product)


def _read(objective: Objective, rows: Batch) -> Iterator[tuple[Batch, Float[Tensor, "P B E"]]]:
    """Yield rows, and the states of their prompts with a 1 appended; all zero at padding."""
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        inputs = objective.inputs(part.prompt, part.answer[:, :0])
        states = objective.read(inputs, part.prompt)[:, : part.prompt.shape[1]]
        states = F.pad(states.double(), (0, 1), value=1.0)
        if objective.task.padded_prompts:
            states = states.masked_fill((part.prompt == objective.task.dummy)[..., None], 0)
        yield part, states.transpose(0, 1)
