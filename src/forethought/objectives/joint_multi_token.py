"""Joint multi-token prediction (JTP): a window of upcoming tokens through one hidden state."""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models import Model
from forethought.models.base import ModelInput
from forethought.models.gpt import Attention, initialise
from forethought.models.layers import Context
from forethought.objectives.base import Prompt, check_at_most
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class JointMultiToken(NextToken):
    """Joint multi-token prediction (JTP): the next k tokens jointly, from one hidden state and each other.

    With s = x_1 … x_P y_1 … y_A, hidden states h_t of s_≤t, embeddings E, output layer U and λ = `weight`,

        l_i(t) = -log softmax(U g_i)[s_{t+i}],   i = 1 … k

        paper     loss = 1/A Σ_t (l_1(t) + λ Σ_{i>1} l_i(t))
                  g_1 = h_t,   g_i = h_t + Fetch(w_1 … w_{i-1}),   w_j = E(s_{t+j}) + γ h_t

        nextlat   loss = mean_t l_1(t) + λ mean_{i>1} mean_t l_i(t)
                  g_1 = N Fetch(w_0),   g_i = N (h_t + Fetch(w_0 … w_{i-1})),   w_j = N' (E(s_{t+j}) + γ h_t)

        position t              x_P            y_1            …
        target (tokens read)    y_1            y_2
                                y_2 (y_1)      y_3 (y_2)
                                y_3 (y_1 y_2)  y_4 (y_2 y_3)  …     prompt tokens carry no loss

    Fetch is one layer of causal self-attention, with its output at the last w. Of the sequence before the
    window it sees h_t alone: a bottleneck that must hold all that the true tokens s_{t+1} … do not tell.
    Terms beyond the answer's end are skipped. Decoded token by token from g_1, so that under `paper` Fetch
    is dropped at inference, and under `nextlat` it is not.

    `paper` follows the report's formula. `nextlat` is JTP as in its authors' later code, the baseline of
    NextLat: the window begins with the current token s_t, the next token goes through Fetch as well, a
    LayerNorm N' stands before Fetch and an RMSNorm N after it, γ is learned, Fetch adds a learned bias for
    each pair of places in the window and has no other biases, and the loss is a mean over i. That code
    calls d = k - 1 the horizon and takes four heads at most. For its model see `NextLatent`.

    Source: Ahn, Lamb & Langford, "Efficient Joint Prediction of Multiple Future Tokens" (2503.21801); the
    code of Teoh et al. (2511.05963) for `nextlat`.

    Args:
        horizon: k, from 2 to A.
        variant: `paper` or `nextlat`, as above.
        hidden_scale: γ; under `nextlat` its initial value. None: 0.5, and 0.1 under `nextlat`.
        heads: attention heads of Fetch; a divisor of the model's width.
        weight: λ, of all tokens but the next one.

    Raises:
        Impossible: `horizon` is longer than the answer, or `heads` does not divide the width.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        horizon: Annotated[int, Field(ge=2)] = 3,
        variant: Literal["paper", "nextlat"] = "paper",
        hidden_scale: NonNegativeFloat | None = None,
        heads: Annotated[int, Field(ge=1)] = 1,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        check_at_most(task.answer_length, task, horizon=horizon)
        width = model.width
        if width % heads:
            raise Impossible(f"objective.heads={heads}: not a divisor of model.width={width}; use a divisor")
        self.variant, self.horizon, self.weight = variant, horizon, weight
        gamma = {"paper": 0.5, "nextlat": 0.1}[variant] if hidden_scale is None else hidden_scale
        self.hidden_scale: float | nn.Parameter = gamma
        if variant == "paper":
            self.fetch = Attention(width, heads)
        else:
            self.hidden_scale = nn.Parameter(torch.tensor(float(gamma)))
            self.fetch = WindowAttention(width, heads, horizon)
            self.window_norm = nn.LayerNorm(width)
            self.norm = nn.RMSNorm(width, eps=1e-5)
        initialise(self.fetch, depth=1)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        answer, end, k = batch.answer, batch.prompt.shape[1], self.horizon
        embedded = self.model.embed(torch.cat([batch.prompt, answer], 1))
        hidden = super().read(embedded[:, :-1], batch.prompt, answer.shape[1])
        # Position t has the targets s_{t+1} … s_{t+k} and the window s_t … s_{t+k-1}. What lies beyond the
        # answer is `$`, which carries no loss, and zero, which only such places of the window see.
        targets = F.pad(answer, (0, k - 1), value=self.task.dummy).unfold(1, k, 1)
        window = F.pad(embedded[:, end - 1 :], (0, 0, 0, k - 2)).unfold(1, k, 1).transpose(2, 3)
        logits = self.model.logits(self.states(hidden, window))
        sums = self.cross_entropy(logits, targets, "none").sum((0, 1))
        if self.variant == "paper":
            return (sums[0] + self.weight * sums[1:].sum()) / self.count(answer)
        means = sums / (targets != self.task.dummy).sum((0, 1)).clamp(min=1)
        return means[0] + self.weight * means[1:].mean()

    def states(
        self, hidden: Float[Tensor, "B S D"], window: Float[Tensor, "B S W D"]
    ) -> Float[Tensor, "B S W D"]:
        """Return g_1 … g_W at every position, from the hidden state and the embedded tokens s_t … ."""
        hidden = hidden[:, :, None]
        if self.variant == "paper":
            inputs = window[:, :, 1:] + self.hidden_scale * hidden
            places = Context(torch.arange(inputs.shape[2], device=inputs.device))
            fetched = self.fetch(inputs.flatten(0, 1), places).view_as(inputs)
            return torch.cat([hidden, hidden + fetched], 2)
        inputs = self.window_norm(window + self.hidden_scale * hidden)
        fetched = self.fetch(inputs.flatten(0, 1)).view_as(inputs)
        return self.norm(torch.cat([fetched[:, :, :1], hidden + fetched[:, :, 1:]], 2))

    def read(
        self, inputs: ModelInput, prompt: Prompt, last: int | None = None, *args: Any, **options: Any
    ) -> Float[Tensor, "B L D"]:
        if self.variant == "paper":
            return super().read(inputs, prompt, last, *args, **options)
        embedded = self.model.embed(inputs)
        hidden = super().read(embedded, prompt, last, *args, **options)
        return self.states(hidden, embedded[:, -hidden.shape[1] :, None])[:, :, 0]


class WindowAttention(Attention):
    """Causal self-attention over at most W places, with a learned bias for each pair of them."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__(width, heads)
        self.input = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.place_bias = nn.Parameter(torch.zeros(heads, length, length))

    def forward(self, x: Float[Tensor, "N W D"]) -> Float[Tensor, "N W D"]:  # type: ignore[override]
        length = x.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        bias = self.place_bias[:, :length, :length].masked_fill(future, -torch.inf)
        q, k, v = self.project(x, Context(torch.arange(length, device=x.device)))
        return self.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
