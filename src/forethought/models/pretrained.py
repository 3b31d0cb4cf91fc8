"""A pretrained causal language model of `transformers`, to be fine-tuned under any objective."""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible, InputError
from forethought.models.gpt import GPTBlock
from forethought.validation import validated


@dataclass
class PretrainedCache:
    """The cache of `transformers`, of whatever kind the model makes; None before the first token."""

    native: Any = None


class Pretrained(nn.Module):
    """Token ids of a task or embeddings in, hidden states of a pretrained language model out.

    The model keeps its blocks, positions and last norm. Its vocabulary is exchanged for the task's: V rows
    of embedding and, where the checkpoint does not share them, V rows of output layer. Weights are float32
    and dropout is off, as in every model here. LoRA, if asked for, freezes all that came with the
    checkpoint but those rows.

    Source: the architecture is the checkpoint's; LoRA: Hu et al. (2106.09685), §4.1, on every linear layer.

    Args:
        vocabulary_size: V.
        context_length: the longest sequence T.
        name: a folder that `save_pretrained` wrote, or a model on the Hugging Face hub (its cache is
            looked into first).
        vocabulary: `added`: new rows, normal with the mean and deviation of the old ones, column by
            column; `native`: the rows of the tokens that spell the task's in the model's own tokenizer.
        lora_rank: r of LoRA, its output scaled by 1; None trains every weight.
        mask: `causal` alone.
        token_names: of the task, by id; needed for `native`.

    Raises:
        Impossible: another mask, a context longer than the model's, or a token it does not have.
        InputError: no causal language model can be had by that name, it is of a kind that would not be kept
            whole, or a package is missing.
    """

    masks = ("causal",)

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        name: str,
        vocabulary: Literal["added", "native"] = "added",
        lora_rank: PositiveInt | None = None,
        mask: Literal["causal", "prefix", "full"] = "causal",
        token_names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        if mask not in self.masks:
            raise Impossible(f"model.mask={mask}: Pretrained reads from left to right; expected causal")
        model = load_language_model(name)
        longest = getattr(model.config, "max_position_embeddings", None) or context_length
        if context_length > longest:
            raise Impossible(
                f"model.name={name}: reads at most {longest} tokens, the task has {context_length}; "
                "expected a shorter task or another model"
            )
        plain = reads_out_plainly(model)
        ids = native_ids(name, token_names) if vocabulary == "native" else None
        old, output = model.get_input_embeddings().weight, model.get_output_embeddings()
        self.mask = mask
        self.width = old.shape[1]
        # Not every model has heads; the blocks that objectives add must divide into theirs.
        self.heads = math.gcd(self.width, getattr(model.config, "num_attention_heads", 1))
        self.backbone = model.base_model
        self.backbone.set_input_embeddings(nn.Identity())  # never called: it is given embeddings
        self.embedding = nn.Embedding.from_pretrained(rows(old, ids, vocabulary_size), freeze=False)
        self.output: nn.Linear | None = None
        if output.weight is not old:
            self.output = nn.Linear(self.width, vocabulary_size, bias=output.bias is not None)
            self.output.weight = nn.Parameter(rows(output.weight, ids, vocabulary_size))
            if output.bias is not None:
                self.output.bias = nn.Parameter(rows(output.bias, ids, vocabulary_size))
        if lora_rank is not None:  # last, so that the rows are drawn as they are without it
            add_lora(self.backbone, lora_rank)
        known = inspect.signature(self.backbone.forward).parameters
        self.slot = "cache_params" if "cache_params" in known else "past_key_values"
        self.train()
        if self.slot not in known or self._looks_ahead():
            raise InputError(
                f"model.name={name}: {type(self.backbone).__name__} does not read from left to right; "
                "expected a causal language model"
            )
        if not plain:
            raise InputError(
                f"model.name={name}: scales its embeddings or its logits, which would be lost here; expected "
                "one that does not, such as GPT-2, Llama or Pythia"
            )

    def train(self, mode: bool = True) -> Pretrained:
        """The backbone stays in evaluation mode, in which nothing is dropped."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def _looks_ahead(self) -> bool:
        """Whether the first state depends on the second token, as in an encoder. Not known on `meta`."""
        if self.embedding.weight.is_meta:
            return False
        one, other = self(torch.tensor([[0, 0], [0, 1]]))[:, 0]
        return not torch.allclose(one, other, atol=1e-4)

    def initialise(self, module: nn.Module) -> None:
        """Draw new weights, as the checkpoint's were before training, for all of it or one more block.

        All of them are then trained: frozen by LoRA they would remain noise.
        """
        module.requires_grad_(True)
        module.apply(self.backbone._init_weights)

    def forward(
        self,
        x: Int[Tensor, "B T"] | Float[Tensor, "B T D"],
        prompt_length: int = 0,
        cache: PretrainedCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Hidden states after the last norm.

        Args:
            x: token ids, or embeddings (`embed`) where an objective builds its own input.
            prompt_length: of no effect.
            cache: from `init_cache`; `x` then continues the sequence in the cache, and is appended to
                the cache.
        """
        embedded = x if x.is_floating_point() else self.embed(x)
        if cache is None:
            return self.backbone(inputs_embeds=embedded, use_cache=False).last_hidden_state
        # Once begun, the recurrent ones among the caches go on by single tokens alone.
        parts = [embedded] if cache.native is None else embedded.split(1, 1)
        hidden = []
        for part in parts:
            done = self.backbone(inputs_embeds=part, use_cache=True, **{self.slot: cache.native})
            cache.native = done[self.slot]
            hidden.append(done.last_hidden_state)
        return torch.cat(hidden, 1)

    def embed(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Token embeddings without positions, which the backbone adds."""
        return self.embedding(tokens)

    def new_block(self) -> nn.Module:
        """A block of our GPT, without positions, freshly initialised, for an objective's own heads."""
        block = GPTBlock(self.width, self.heads)
        self.initialise(block)
        return block

    def run_block(
        self, block: nn.Module, hidden: Float[Tensor, "B T D"], prompt_length: int = 0
    ) -> Float[Tensor, "B T D"]:
        """A block of `new_block` on top of hidden states, causal; it adds to what the last norm gave."""
        return block(hidden, None, None, None, False)

    def init_cache(self, batch_size: int, length: int) -> PretrainedCache:
        """An empty cache, which grows with what is read."""
        return PretrainedCache()

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        return F.linear(hidden, self.embedding.weight) if self.output is None else self.output(hidden)


@torch.no_grad()
def reads_out_plainly(model: Any) -> bool:
    """Whether logits are the output layer of the last states of plain embeddings. Not known on `meta`."""
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    if embedding.is_meta:
        return True
    tokens = torch.arange(min(8, len(embedding)))[None]
    states = model.base_model(inputs_embeds=embedding[tokens]).last_hidden_state
    return torch.allclose(output(states), model(tokens).logits, atol=1e-3)


def rows(old: Float[Tensor, " N *D"], ids: list[int] | None, count: int) -> Float[Tensor, " V *D"]:
    """The rows `ids` of a table, or `count` new ones with the same mean and deviation in every column."""
    old = old.detach()
    if ids is not None:
        return old[ids]
    return old.mean(0) + old.std(0) * torch.randn(count, *old.shape[1:])


def library(name: str) -> Any:
    """The package `transformers`, silenced.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(
            f"model.name={name}: transformers is missing; expected `pip install forethought[pretrained]`"
        ) from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def load_language_model(name: str) -> Any:
    """The whole model in float32; under `torch.device("meta")` its shapes alone.

    Raises:
        InputError: there is none.
    """
    auto = library(name)
    if torch.get_default_device().type != "meta":
        nowhere_else = {"local_files_only": True}  # or every load asks the hub for adapters of that name
        return load(auto.AutoModelForCausalLM, name, dtype=torch.float32, adapter_kwargs=nowhere_else)
    config = load(auto.AutoConfig, name)
    try:
        return auto.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise unusable(name, error) from None


def load(auto: Any, name: str, **options: Any) -> Any:
    """From a folder or the hub's cache; else from the hub, if it can be reached.

    Raises:
        InputError: in neither.
    """
    try:
        return auto.from_pretrained(name, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        if Path(name).exists() or not hub_answers():
            raise unusable(name, error) from None
    try:
        return auto.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise unusable(name, error) from None


def unusable(name: str, error: Exception) -> InputError:
    return InputError(
        f"model.name={name}: cannot be loaded ({first_line(error)}); expected a folder with a causal "
        "language model that save_pretrained wrote, or the name of one on the Hugging Face hub"
    )


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def hub_answers() -> bool:
    """Asked once, as `transformers` itself would ask for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # whatever the HTTP client of this version raises
        return False
    return True


def native_ids(name: str, token_names: tuple[str, ...] | None) -> list[int]:
    """Ids in the model's own tokenizer of the task's tokens.

    Raises:
        InputError: the task's tokens are not given.
        Impossible: a token's text is none or several of the tokenizer's.
    """
    if token_names is None:
        raise InputError("model.vocabulary=native: expected the task's tokens as token_names")
    tokenizer = load(library(name).AutoTokenizer, name)
    whole = tokenizer.get_vocab()
    ids = []
    for text in token_names:
        found = tokenizer.encode(text, add_special_tokens=False)
        if len(found) > 1 and text in whole:  # a tokenizer that puts a space before every text
            found = [whole[text]]
        # An unknown token, or one that was changed on the way, does not read as it was written.
        if len(found) != 1 or tokenizer.decode(found).strip() != text.strip():
            raise Impossible(
                f"model.vocabulary=native: {text!r} is not one token of {name}; expected a task whose "
                "tokens are, or model.vocabulary=added"
            )
        ids += found
    return ids


def add_lora(backbone: nn.Module, rank: int) -> None:
    """Freeze a model and add trained matrices of rank r to every linear layer of it.

    Raises:
        InputError: `peft` is not installed, or knows no LoRA for this architecture.
    """
    try:
        import peft
    except ImportError:
        raise InputError(
            f"model.lora_rank={rank}: peft is missing; expected `pip install forethought[pretrained]`"
        ) from None
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # GPT-2's transposed matrices are found by itself
            peft.inject_adapter_in_model(config, backbone)
    except ValueError as error:
        raise InputError(f"model.lora_rank={rank}: {first_line(error)}; expected null") from None
