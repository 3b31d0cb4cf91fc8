"""Semformer: plan tokens that predict a summary of the answer before the answer is written."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from forethought.models import Model
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task
from forethought.validation import validated


class PlanTokens(NextToken):
    """Semformer: next-token prediction after plan tokens that predict an autoencoder's latents of the answer.

    With prompt x, learned plan tokens d_1 … d_k, the model's states h_1 … h_k of these, answer y_1 … y_A
    and the autoencoder's latents z_1 … z_k = encoder(y),

        loss = -1/A Σ_i log p(y_i | x, d, y_<i)
               + alpha SmoothL1(W h, stopgrad(z))
               + beta (-1/A Σ_i log q(y_i | z, y_<i))

        input     x_1 … x_P  d_1 … d_k  y_1  …  y_{A-1}
        target                     y_1  y_2  …  y_A            prompt tokens carry no loss

    The encoder reads the answer alone, through the model's states of it. These states carry no gradient,
    so that the latents shape the model through the plan tokens alone. The autoencoder is dropped at
    inference, the plan tokens stay. Decoded token by token.

    Source: Yin et al., "Semformer" (2409.11143), §3; smooth L1 in place of L2 as in its published code. That
    code's decoder is a shallow GPT-2 that shares embeddings and output layer with the model and reads the
    latents as a prefix of keys and values. Here the decoder is one Transformer layer with embeddings of its
    own, which reads the latents by cross-attention.

    Args:
        tokens: k, plan tokens.
        latent_width: size of each latent.
        alpha: weight of predicting the latents.
        beta: weight of reconstructing the answer.
    """

    @validated
    def __init__(
        self,
        model: Model,
        task: Task,
        tokens: PositiveInt = 4,
        latent_width: PositiveInt = 32,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(model, task)
        self.tokens, self.alpha, self.beta = tokens, alpha, beta
        width, heads = model.width, getattr(model, "heads", 1)
        self.plan = nn.Embedding(tokens, width)
        self.project = nn.Linear(width, latent_width, bias=False)
        self.autoencoder = Autoencoder(task, width, heads, tokens, latent_width)
        for name, parameter in self.named_parameters():
            if not name.startswith("model.") and parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    @classmethod
    @validated
    def extra_positions(cls, task: Task, tokens: PositiveInt = 4, **options: Any) -> int:
        return tokens

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        next_token, prediction, reconstruction = self.terms(batch)
        return next_token + self.alpha * prediction + self.beta * reconstruction

    def terms(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the three terms of the loss: next token, latents, reconstruction."""
        hidden = self.hidden(batch)
        padding = None if self.task.end is None else batch.answer == self.task.dummy
        # The encoder must not see the prompt, so the model reads the answer without it.
        latents = self.autoencoder.encode(self.model(batch.answer).detach(), padding)
        reconstructed = self.autoencoder.decode(latents, batch.answer)
        return (
            self.answer_loss(self.model.logits(hidden[:, self.tokens - 1 :]), batch),
            F.smooth_l1_loss(self.project(hidden[:, : self.tokens]), latents.detach()),
            self.cross_entropy(reconstructed, batch.answer),
        )

    def hidden(self, batch: Batch) -> Float[Tensor, "B S D"]:
        """Return the states of the plan tokens and of the answer tokens read, S = k + A - 1."""
        inputs = self.inputs(batch.prompt, batch.answer[:, :-1])
        return self.read(inputs, batch.prompt, inputs.shape[1] - batch.prompt.shape[1])

    def inputs(self, prompt: Int[Tensor, "B P"], answer: Int[Tensor, "B S"]) -> Float[Tensor, "B T D"]:
        plan = self.plan.weight.expand(len(prompt), -1, -1)
        return torch.cat([self.model.embed(prompt), plan, self.model.embed(answer)], 1)


class Autoencoder(nn.Module):
    """Autoencoder of answers: k learned queries attend to the answer; a Transformer layer rewrites it."""

    def __init__(self, task: Task, width: int, heads: int, latents: int, latent_width: int) -> None:
        super().__init__()
        self.start = task.dummy
        self.queries = nn.Embedding(latents, width)
        self.query_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.squeeze = nn.Linear(width, latent_width, bias=False)
        self.widen = nn.Linear(latent_width, width, bias=False)
        self.embedding = nn.Embedding(len(task.vocabulary), width)
        self.position = nn.Embedding(task.answer_length, width)
        self.decoder = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.output_norm = nn.LayerNorm(width)

    def encode(
        self, hidden: Float[Tensor, "B A D"], padding: Bool[Tensor, "B A"] | None = None
    ) -> Float[Tensor, "B K L"]:
        queries = self.queries.weight.expand(len(hidden), -1, -1)
        attended, _ = self.attention(
            self.query_norm(queries), hidden, hidden, key_padding_mask=padding, need_weights=False
        )
        return self.squeeze(self.norm(queries + attended))

    def decode(self, latents: Float[Tensor, "B K L"], answer: Int[Tensor, "B A"]) -> Float[Tensor, "B A V"]:
        """Return the logits of each answer token from the latents and the true tokens before it."""
        start = torch.full_like(answer[:, :1], self.start)
        x = self.embedding(torch.cat([start, answer[:, :-1]], 1))
        x = x + self.position.weight[: x.shape[1]]
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        hidden = self.decoder(x, self.widen(latents), tgt_mask=later)
        return F.linear(self.output_norm(hidden), self.embedding.weight)
