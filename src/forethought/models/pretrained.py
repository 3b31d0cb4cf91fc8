"""A pretrained causal language model of `transformers`, for fine-tuning under any objective."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible, InputError, first_line
from forethought.extras import import_transformers
from forethought.models.base import Model, OutputLayer
from forethought.models.gpt import Attention, GPTBlock
from forethought.models.layers import Context, Layer, Unchanged
from forethought.tasks.text import token_names_of
from forethought.validation import validated

CACHE_NAMES = ("cache", "cache_params", "past_key_values")
"""transformers 5.24 names the argument `cache`; before, `cache_params` in recurrent models or the third."""


class Pretrained(Model):
    """A pretrained causal language model with the vocabulary of a task.

    The model keeps its blocks, positions and last norm. The task's vocabulary replaces the model's: V rows
    of embedding and, if the checkpoint does not share them, V rows of output layer. Weights are float32
    and dropout is off, as in every model here. LoRA freezes all weights of the checkpoint but those rows.

    Source: the architecture is the checkpoint's; LoRA: Hu et al. (2106.09685), §4.1, on every linear layer.

    Args:
        name: a folder written by `save_pretrained`, or a model on the Hugging Face hub. The hub's local
            cache is tried first.
        vocabulary: `added`: new rows, normal with the mean and deviation of each column of the old ones;
            `native`: the rows of the tokens with the same text in the model's own tokenizer, or of all its
            tokens if the task is written in them (`tokenizer`), and one new row for `$`.
        lora_rank: r of LoRA, whose output is scaled by 1; None trains all weights.
        token_names: text of the task's tokens, by id; required for `native`.
        tokenizer: folder of the tokenizer that the task's tokens are of; None: it has tokens of its own.
        others: as for `Model`.

    Raises:
        Impossible: a context longer than the model's, a token that the model lacks, or `tokenizer` is another
            one than the model's, or given without `native`.
        InputError: the model cannot be loaded, is not a causal language model, or scales its embeddings or
            logits; or a package is missing.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        name: str = "gpt2",
        vocabulary: Literal["added", "native"] = "added",
        lora_rank: PositiveInt | None = None,
        mask: Literal["causal", "prefix", "full"] = "causal",
        token_names: tuple[str, ...] | None = None,
        tokenizer: str | None = None,
    ) -> None:
        if tokenizer is not None and vocabulary != "native":
            raise Impossible(
                f"model.vocabulary={vocabulary}: not supported with task.tokenizer={tokenizer}, whose "
                "tokens would get new embeddings; use native"
            )
        model = load_language_model(name)
        longest = getattr(model.config, "max_position_embeddings", None) or context_length
        if context_length > longest:
            raise Impossible(
                f"model.name={name}: out of range: the task has {context_length} tokens, the model reads at "
                f"most {longest}; use a shorter task or another model"
            )
        plain = reads_out_plainly(model)
        ids = native_ids(name, token_names, tokenizer) if vocabulary == "native" else None
        old, output = model.get_input_embeddings().weight, model.get_output_embeddings()
        if ids and max(ids) >= len(old):
            raise InputError(
                f"model.name={name}: its tokenizer has more tokens than the {len(old)} of the model; use a "
                "tokenizer of its own"
            )
        super().__init__(old.shape[1], mask)
        # A model without heads gets one head in the blocks that objectives add.
        self.heads = math.gcd(self.width, getattr(model.config, "num_attention_heads", 1))
        self.backbone = WholeBackbone(name, model)
        self.last = Unchanged()  # objectives that replace the last layer leave the checkpoint whole
        self.norm = nn.Identity()
        self.embedding = nn.Embedding.from_pretrained(rows(old, ids, vocabulary_size), freeze=False)
        self.output: OutputLayer | None = None
        if output.weight is not old:
            self.output = OutputLayer(self.width, vocabulary_size, bias=output.bias is not None)
            self.output.weight = nn.Parameter(rows(output.weight, ids, vocabulary_size))
            if output.bias is not None:
                self.output.bias = nn.Parameter(rows(output.bias, ids, vocabulary_size))
        if lora_rank is not None:  # last, so that the rows do not depend on lora_rank
            add_lora(self.backbone.model, lora_rank)
        self.train()
        if self._looks_ahead():
            kind = type(self.backbone.model).__name__
            raise InputError(f"model.name={name}: {kind} is not supported; use a causal language model")
        if not plain:
            raise InputError(
                f"model.name={name}: models that scale their embeddings or logits are not supported; use "
                "another one, such as GPT-2, Llama or Pythia"
            )

    def train(self, mode: bool = True) -> Pretrained:
        """Set the training mode, but keep the backbone in evaluation mode, without dropout."""
        super().train(mode)
        self.backbone.model.eval()
        return self

    @torch.no_grad()
    def _looks_ahead(self) -> bool:
        """Return True if the first state depends on the second token, as in an encoder; False on `meta`."""
        if self.embedding.weight.is_meta:
            return False
        first, second = self(torch.tensor([[0, 0], [0, 1]]))[:, 0]
        return not torch.allclose(first, second, atol=1e-4)

    @property
    def layers(self) -> list[Layer]:
        return [self.backbone, self.last]

    def new_layer(self) -> GPTBlock:
        """Return a freshly initialised block of our GPT, without positions. It adds to the normed states."""
        block = GPTBlock(self.width, Attention(self.width, self.heads))
        block.apply(self.backbone.model._init_weights)
        return block

    def twin(self) -> Pretrained:
        """Return a model with weights drawn by the checkpoint's own rules, and without an output layer.

        All of them are trained, also with LoRA: frozen random weights would remain noise.
        """
        twin = copy.deepcopy(self)
        twin.backbone.model.requires_grad_(True).apply(self.backbone.model._init_weights)
        twin.embedding, twin.output = self.embedding, None
        return twin

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        return super().logits(hidden) if self.output is None else self.output(hidden)


@dataclass
class NativeCache:
    """Cache object of `transformers`, of the class that the model returns; None before the first token."""

    native: Any = None


class WholeBackbone(Layer):
    """All blocks, positions and the last norm of a model of `transformers`.

    Raises:
        InputError: the model has no cache.
    """

    def __init__(self, name: str, model: Any) -> None:
        super().__init__()
        self.model = model.base_model
        self.model.set_input_embeddings(nn.Identity())  # never called: the backbone reads embeddings
        known = inspect.signature(self.model.forward).parameters
        names = [key for key in CACHE_NAMES if key in known]
        if not names:
            version = import_transformers(f"model.name={name}").__version__
            raise InputError(
                f"model.name={name}: {type(self.model).__name__} of transformers {version} takes no "
                f"{' or '.join(CACHE_NAMES)}; use another version, or a model with a cache"
            )
        self.cache_name = names[0]
        # Early versions 5 ask recurrent models for a position, which must lie beyond their convolution.
        recurrent = self.cache_name == "cache_params" and "cache_position" in known
        self.position = getattr(model.config, "conv_kernel", 1) if recurrent else None

    def init_cache(self, batch_size: int, length: int) -> NativeCache:
        return NativeCache()

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        cache = context.cache
        if cache is None:
            hidden: Tensor = self.model(inputs_embeds=x, use_cache=False).last_hidden_state
            return hidden
        # A recurrent cache of transformers that is not empty takes single tokens only.
        parts = [x] if cache.native is None else x.split(1, 1)
        states = []
        for part in parts:
            options = {self.cache_name: cache.native}
            if self.position is not None and cache.native is not None:
                options["cache_position"] = torch.tensor([self.position], device=x.device)
            output = self.model(inputs_embeds=part, use_cache=True, **options)
            cache.native = output[self.cache_name]
            states.append(output.last_hidden_state)
        return torch.cat(states, 1)


@torch.no_grad()
def reads_out_plainly(model: Any) -> bool:
    """Return True if the logits are the output layer of the states of unscaled embeddings, or on `meta`."""
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    if embedding.is_meta:
        return True
    tokens = torch.arange(min(8, len(embedding)))[None]
    states = model.base_model(inputs_embeds=embedding[tokens]).last_hidden_state
    return torch.allclose(output(states), model(tokens).logits, atol=1e-3)


def rows(old: Float[Tensor, " N *D"], ids: list[int] | None, count: int) -> Float[Tensor, " V *D"]:
    """Return the rows `ids` of a table, then new ones up to `count` in all.

    New rows are normal with the mean and deviation of each column.
    """
    old, ids = old.detach(), ids or []
    new = old.mean(0) + old.std(0) * torch.randn(count - len(ids), *old.shape[1:])
    return torch.cat([old[ids], new])


def load_language_model(name: str) -> Any:
    """Load the whole model in float32; under `torch.device("meta")`, only its shapes.

    Raises:
        InputError: the model cannot be loaded.
    """
    transformers = import_transformers(f"model.name={name}")
    auto = transformers.AutoModelForCausalLM
    if torch.get_default_device().type != "meta":
        # Without adapter_kwargs, every load asks the hub for adapters of that name.
        return load_pretrained(auto, name, dtype=torch.float32, adapter_kwargs={"local_files_only": True})
    config = load_pretrained(transformers.AutoConfig, name)
    try:
        model = auto.from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise loading_error(name, error) from None
    model.tie_weights()  # transformers 5.0 leaves them apart on `meta`
    return model


def load_pretrained(auto: Any, name: str, **options: Any) -> Any:
    """Load from a folder or the hub's local cache; if that fails, from the hub.

    Raises:
        InputError: all of them fail.
    """
    try:
        return auto.from_pretrained(name, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        if Path(name).exists() or not hub_answers():
            raise loading_error(name, error) from None
    try:
        return auto.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise loading_error(name, error) from None


def loading_error(name: str, error: Exception) -> InputError:
    """Return the error for a model that cannot be loaded."""
    return InputError(
        f"model.name={name}: cannot be loaded ({first_line(error)}); use a folder with a causal language "
        "model written by save_pretrained, or the name of one on the Hugging Face hub"
    )


def hub_answers() -> bool:
    """Return True if the hub answers within 5 s; `transformers` itself would retry for 30 s."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # the class depends on the HTTP client, which depends on the version
        return False
    return True


def native_ids(name: str, token_names: tuple[str, ...] | None, tokenizer: str | None) -> list[int]:
    """Return the ids of the task's tokens in the model's own tokenizer; without `$` if they are its tokens.

    Raises:
        InputError: `token_names` is None.
        Impossible: a token of the task is not exactly one token of the tokenizer; `tokenizer` is another one.
    """
    if token_names is None:
        raise InputError("model.vocabulary=native: requires token_names, the texts of the task's tokens")
    own = load_pretrained(import_transformers(f"model.name={name}").AutoTokenizer, name)
    if tokenizer is not None:
        if token_names_of(own) != token_names[:-1]:
            raise Impossible(
                f"task.tokenizer={tokenizer}: its tokens are not those of model.name={name}; use the "
                "same folder for both"
            )
        return [*range(len(own))]
    vocabulary = own.get_vocab()
    ids = []
    for text in token_names:
        pieces = own.encode(text, add_special_tokens=False)
        if len(pieces) > 1 and text in vocabulary:  # a tokenizer that puts a space before every text
            pieces = [vocabulary[text]]
        # An unknown or normalised token is one piece too, but decodes to another text.
        if len(pieces) != 1 or own.decode(pieces).strip() != text.strip():
            raise Impossible(
                f"model.vocabulary=native: {text!r} is not one token of {name}; use another task or "
                "model.vocabulary=added"
            )
        ids += pieces
    return ids


def add_lora(backbone: nn.Module, rank: int) -> None:
    """Freeze a model and add trained matrices of rank r to all of its linear layers.

    Raises:
        InputError: `peft` is missing, or does not support this architecture.
    """
    try:
        import peft
    except ImportError:
        raise InputError(
            f"model.lora_rank={rank}: peft is missing; run `pip install -e '.[pretrained]'`"
        ) from None
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # peft handles GPT-2's transposed matrices
            peft.inject_adapter_in_model(config, backbone)
    except ValueError as error:
        raise InputError(f"model.lora_rank={rank}: not supported ({first_line(error)}); use null") from None
