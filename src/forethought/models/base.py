"""Base class of the models: the contract between a model and the objectives."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models.short_conv import Cache, ShortConv

M = TypeVar("M", bound=nn.Module)

ModelInput = Int[Tensor, "B T"] | Float[Tensor, "B T D"]
"""Token ids, or embeddings (`Model.embed`) if an objective builds its own input."""

Conv = Literal["none", "input", "blocks"]
"""Where a model has short causal convolutions (`ShortConv`)."""


class OutputLayer(nn.Linear):
    """A linear layer from hidden states to one number for each token of the vocabulary.

    `Muon` finds output layers by this type, because their shape can be that of any other layer.
    """


class Model(nn.Module, ABC):
    """Token ids or embeddings in, hidden states out.

    A subclass takes `vocabulary_size` (V), `context_length` (the longest sequence T) and options with
    defaults. It calls `super().__init__(width, mask)`, sets `embedding`, and defines `forward` and
    `init_cache`. Every objective that reads tokens and predicts the next ones then works, by `embed`,
    `forward`, `init_cache` and `logits`; so do those that build their own input. With the option `conv`,
    it also passes `conv` and its number of layers, and `forward` passes the input of each block through
    `convolve`.

    The abilities below are optional. An objective looks for the method, or for the argument by its name,
    and rejects a model without it.

    * `new_block()` returns one more freshly initialised block, and
      `run_block(block, hidden, prompt_length)` returns its output, normed like that of `forward`. The
      heads of `multi_token` and `sequential_multi_token` are such blocks.
    * `last_block`, the last block that a token passes, and `forward(trunk=True)`, which returns the input
      of `last_block`: with both, the heads of `multi_token` stand beside the last block, else on top of it.
    * `forward(positions=, attention_mask=)` and `build_attention_mask(length, prompt_length, device)`:
      `any_order` and `register_tokens` place tokens and hide them from each other.
    * `forward(myopic=True)` stops the gradient from a position to all earlier ones: `myopic`.
    * `last=n`, in `forward` and `run_block`, returns the hidden states of the last n positions. It saves
      time: without it an objective computes all positions and drops the others.
    * `heads`, the number of attention heads, which `plan_tokens` takes for its own blocks.

    Args:
        vocabulary_size: V, of a subclass.
        context_length: the longest sequence T, of a subclass; unused if T has no limit.
        layers: number of blocks, of a subclass.
        width: D, of the hidden states.
        mask: attention mask, one of `masks`. `causal`: each token sees itself and the tokens before.
            `prefix`: in addition, all prompt tokens see each other. `full`: all tokens see each other.

        conv: `input`: a `ShortConv` on the embeddings, before positions are added; `blocks`: one more
            before each further block. Blocks of `new_block` have none.

    Raises:
        Impossible: `mask` is not among `masks`.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal",)
    """The attention masks that the architecture supports."""

    embedding: nn.Embedding
    """The token embedding; `embed` calls it once, so that a hook on it sees the embeddings."""

    def __init__(self, width: int, mask: str = "causal", conv: Conv = "none", layers: int = 1) -> None:
        super().__init__()
        if mask not in self.masks:
            raise Impossible(
                f"model.mask={mask}: not supported by {type(self).__name__}; use {' or '.join(self.masks)}"
            )
        self.width = width
        self.mask = mask
        self.conv = conv
        count = {"none": 0, "input": 1, "blocks": layers}[conv]
        self.convs = nn.ModuleList(ShortConv(width) for _ in range(count))

    @classmethod
    def for_task(cls: type[M], task: Any, extra_positions: int = 0, **options: Any) -> M:
        """Build the model with the vocabulary and the context length of a task.

        Args:
            task: a `forethought.tasks.Task`.
            extra_positions: positions beyond prompt and answer, as returned by an objective's
                `extra_positions`.
            options: further arguments of the constructor.
        """
        options["vocabulary_size"] = len(task.vocabulary)
        options["context_length"] = task.prompt_length + task.answer_length + extra_positions
        if "token_names" in inspect.signature(cls).parameters:
            options["token_names"] = task.vocabulary
        return cls(**options)

    @abstractmethod
    def forward(self, x: ModelInput, prompt_length: int = 0, cache: Any = None) -> Float[Tensor, "B T D"]:
        """Return the hidden states, from which `logits` predicts.

        Args:
            prompt_length: P, of which only the `prefix` mask makes use.
            cache: from `init_cache`. `x` then continues the sequence in the cache, in pieces of any
                length, and is appended to the cache.
        """

    @abstractmethod
    def init_cache(self, batch_size: int, length: int) -> Any:
        """Return an empty decoding cache for `batch_size` sequences of up to `length` tokens."""

    def embed(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Return token embeddings. `forward` adds positions, if the architecture has any."""
        return self.embedding(tokens)

    def convolve(
        self,
        block: int,
        x: Float[Tensor, "B T D"],
        cache: Cache | None = None,
        myopic: bool = False,
        positions: Int[Tensor, " T"] | Int[Tensor, "B T"] | None = None,
        attention_mask: Bool[Tensor, "T T"] | Bool[Tensor, "B T T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the input of a block, from 0, with its convolution added, if it has one.

        Args:
            positions, attention_mask: if both are given, neighbours are found by their positions.
        """
        if self.conv == "none" or (self.conv == "input" and block > 0):
            return x
        conv: Any = self.convs[block % len(self.convs)]  # a looped model passes its blocks several times
        if positions is not None and attention_mask is not None:
            return conv.by_position(x, positions, attention_mask)
        return conv(x, cache, block, myopic)

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Return logits from hidden states, by default with the weights of the token embedding."""
        return F.linear(hidden, self.embedding.weight)

    def new_block(self) -> nn.Module:
        """Return one more freshly initialised block.

        Raises:
            Impossible: the model does not define `new_block` and `run_block`.
        """
        raise Impossible(
            f"model: {type(self).__name__} has no new_block, which this objective requires; "
            "use a model that has, such as gpt"
        )

    def initialise(self, module: nn.Module) -> None:
        """Draw new weights for the whole model or for one more block, by default PyTorch's own.

        `belief_state` calls it for its second encoder.
        """
        part: Any
        for part in module.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
