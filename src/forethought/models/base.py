"""Base class of the models: the contract between a model and the objectives."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from forethought.errors import Impossible
from forethought.models.layers import AnyLayer, Cache, Context, Layer, causal_mask
from forethought.models.short_conv import ShortConv

M = TypeVar("M", bound="Model")

ModelInput = Int[Tensor, "B T"] | Float[Tensor, "B T D"]
"""Token ids, or embeddings (`Model.embed`) if an objective builds its own input."""

Conv = Literal["none", "input", "blocks"]
"""Places of the short causal convolutions (`ShortConv`)."""


class OutputLayer(nn.Linear):
    """A linear layer from hidden states to one number for each token of the vocabulary.

    `Muon` finds output layers by this type, because their shape can be that of any other layer.
    """


class Model(nn.Module, ABC):
    """An embedding, layers, a norm and an output layer: tokens in, hidden states out.

    A subclass takes `vocabulary_size` (V), `context_length` (the longest sequence T) and options with
    defaults. It calls `super().__init__`, sets `embedding` and `norm`, and defines `layers` and `new_layer`.
    A layer (`forethought.models.layers`) is called with the hidden states and one `Context`, and declares
    the masks and orders that it supports. Every objective then works that these allow.

    Args:
        vocabulary_size: V, of a subclass.
        context_length: the longest sequence T, of a subclass; unused if T has no limit.
        layers: number of blocks, of a subclass.
        width: D, of the hidden states.
        mask: attention mask, one of `masks`. `causal`: each token sees itself and the tokens before.
            `prefix`: in addition, all prompt tokens see each other. `full`: all tokens see each other.
        conv: `input`: a `ShortConv` on the embeddings, before positions are added; `blocks`: one more
            before each further block. A new layer has none.

    Raises:
        Impossible: `mask` is not among `masks`.
    """

    masks: ClassVar[tuple[str, ...]] = ("causal",)
    """The attention masks that all layers of the architecture support."""

    embedding: nn.Embedding
    """The token embedding; `embed` calls it once, so that a hook on it sees the embeddings."""

    norm: nn.Module
    """The last norm, after all layers."""

    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    """Arguments of the constructor."""

    def __new__(cls: type[M], *args: Any, **options: Any) -> M:
        model = super().__new__(cls)
        object.__setattr__(model, "arguments", (args, options))  # for `twin`
        return model

    def __init__(self, width: int, mask: str = "causal", conv: Conv = "none", blocks: int = 1) -> None:
        super().__init__()
        if mask not in self.masks:
            raise Impossible(
                f"model.mask={mask}: not supported by {type(self).__name__}; use {' or '.join(self.masks)}"
            )
        self.width = width
        self.mask = mask
        self.conv = conv
        count = {"none": 0, "input": 1, "blocks": blocks}[conv]
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
        named = {"token_names": task.vocabulary, "tokenizer": task.pretrained_tokenizer}
        options |= {key: named[key] for key in named.keys() & inspect.signature(cls).parameters}
        return cls(**options)

    @property
    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """The layers in the order in which a token passes them; the same one may come several times.

        Multi-token prediction replaces the last one.
        """

    @property
    def main_layers(self) -> list[Layer]:
        """The layers by which depth is counted: all but positions and short convolutions (`AnyLayer`)."""
        return [layer for layer in self.layers if not isinstance(layer, AnyLayer)]

    @abstractmethod
    def new_layer(self) -> Layer:
        """Return one more freshly initialised layer of the kind of the last one."""

    @property
    def any_order(self) -> bool:
        """True if tokens can be placed at any positions, and hidden from each other."""
        return all(layer.any_order for layer in self.layers)

    @property
    def pads(self) -> bool:
        """True if sequences may begin with padding."""
        return all(layer.pads for layer in self.layers)

    def embed(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Return token embeddings. A layer adds positions, if the architecture has any."""
        return self.embedding(tokens)

    def forward(
        self,
        x: ModelInput,
        prompt_length: int = 0,
        cache: Cache | None = None,
        padding: Bool[Tensor, "B T"] | None = None,
        positions: Int[Tensor, " T"] | Int[Tensor, "B T"] | None = None,
        attention_mask: Bool[Tensor, "T S"] | Bool[Tensor, "B T S"] | None = None,
        last: int | None = None,
        layers: Sequence[Layer] | None = None,
        norm: bool = True,
    ) -> Float[Tensor, "B L D"]:
        """Return the hidden states, from which `logits` predicts, of all L = T positions or the last L ones.

        Args:
            prompt_length: P, of which only the `prefix` mask makes use.
            cache: from `init_cache`. `x` then continues the sequence in the cache, in pieces of any
                length, and is appended to the cache. Under the `prefix` mask, the whole prompt must come
                in the first piece.
            padding: True where there is no token (`Context`). With a cache, of the first piece alone.
            positions: position of each token; by default 0, 1, … after those in the cache.
            attention_mask: True where row t sees column s, in place of the model's own mask.
            last: L. The last layer may then skip the other positions.
            layers: layers to pass in place of the model's own; not with a cache.
            norm: False to leave out the last norm, as further layers follow.
        """
        hidden = x if x.is_floating_point() else self.embed(x)
        context = self.context(hidden, prompt_length, cache, padding, positions, attention_mask)
        layers = self.layers if layers is None else layers
        for index, layer in enumerate(layers):
            wanted = last if index == len(layers) - 1 else None
            hidden = layer(hidden, context.of_layer(cache.layers[index] if cache else None, wanted))
        if cache:
            cache.length += x.shape[1]
        if last is not None:
            hidden = hidden[:, -last:]
        return self.norm(hidden) if norm else hidden

    def context(
        self,
        x: Tensor,
        prompt_length: int = 0,
        cache: Cache | None = None,
        padding: Bool[Tensor, "B T"] | None = None,
        positions: Int[Tensor, " T"] | Int[Tensor, "B T"] | None = None,
        attention_mask: Bool[Tensor, "T S"] | Bool[Tensor, "B T S"] | None = None,
    ) -> Context:
        """Return what the layers are called with to read `x`; arguments as of `forward`."""
        length, past = x.shape[1], cache.length if cache else 0
        given = positions is not None and attention_mask is not None
        if cache and padding is not None:
            cache.padding = padding
        before = cache.padding if cache else padding
        if positions is None:
            positions = torch.arange(past, past + length, device=x.device)
            if before is not None:
                positions = (positions - before.sum(1, keepdim=True)).clamp(min=0)
        if attention_mask is None:
            attention_mask = self._own_mask(length, past, prompt_length, x.device)
        if before is not None:
            if attention_mask is None:
                attention_mask = causal_mask(length, past, x.device)
            unseen = F.pad(before, (0, past + length - before.shape[1]))[:, None]
            itself = torch.eye(length, past + length, dtype=torch.bool, device=x.device).roll(past, 1)
            attention_mask = (attention_mask & ~unseen) | itself  # a row that sees nothing would be NaN
        return Context(positions, attention_mask, padding, past, given)

    def _own_mask(
        self, length: int, past: int, prompt_length: int, device: torch.device
    ) -> Bool[Tensor, "T S"] | None:
        """Return the model's own mask; None selects the causal mask of the fused kernels (faster)."""
        if self.mask == "full":
            return torch.ones(length, past + length, dtype=torch.bool, device=device)
        if self.mask == "causal" and past == 0:
            return None
        attention_mask = causal_mask(length, past, device)
        if self.mask == "prefix":
            attention_mask[:, :prompt_length] = True
        return attention_mask

    def build_attention_mask(
        self, length: int, prompt_length: int, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "T T"]:
        """Return the model's own mask: row t sees column s where it is True."""
        own = self._own_mask(length, 0, prompt_length, torch.device(device))
        return causal_mask(length, device=device) if own is None else own

    def init_cache(self, batch_size: int, length: int) -> Cache:
        """Return an empty decoding cache for `batch_size` sequences of up to `length` tokens."""
        return Cache([layer.init_cache(batch_size, length) for layer in self.layers], length)

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Return logits from hidden states, by default with the weights of the token embedding."""
        return F.linear(hidden, self.embedding.weight)

    def with_convs(self, blocks: Iterable[Any]) -> list[Any]:
        """Return blocks, in the order in which a token passes them, with the convolutions before them."""
        if self.conv != "blocks":
            return [*self.convs, *blocks]
        # A looped model passes its convolutions several times, too.
        convs: Any = self.convs
        pairs = ((convs[index % len(convs)], block) for index, block in enumerate(blocks))
        return [layer for pair in pairs for layer in pair]

    def twin(self: M) -> M:
        """Return a model of the same kind with newly drawn weights, which shares the token embedding."""
        args, options = self.arguments
        twin = type(self)(*args, **options).to(self.embedding.weight)
        twin.embedding = self.embedding
        return twin
