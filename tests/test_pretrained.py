"""Pretrained models against transformers' own logits, on tiny random checkpoints of several families."""

import inspect

import contract
import pytest
import torch
import torch.nn.functional as F

import forethought.models.pretrained as module
from forethought.config import Composer
from forethought.errors import Impossible, InputError
from forethought.models import OutputLayer, Pretrained
from forethought.objectives import NextToken
from forethought.objectives.any_order import AnyOrder
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.myopic import Myopic
from forethought.objectives.register_tokens import RegisterTokens
from forethought.training import check

V, T, P = len(contract.TASK.vocabulary), 11, 6
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 30, "bos_token_id": 0, "eos_token_id": 0}
HEADS = {"num_attention_heads": 2, "intermediate_size": 24}
FAMILIES = {
    "llama": ("LlamaConfig", SIZES | HEADS),
    "gpt_neox": ("GPTNeoXConfig", SIZES | HEADS),
    "mamba": ("MambaConfig", SIZES | {"pad_token_id": 0, "state_size": 4}),
    "bert": ("BertConfig", SIZES | HEADS),
    "gemma": ("Gemma3TextConfig", SIZES | HEADS | {"head_dim": 8, "num_key_value_heads": 2}),
}


@pytest.fixture(scope="module")
def checkpoint(gpt2_checkpoint, tmp_path_factory):
    """Save a tiny model of a family, and a tokenizer with the task's tokens and others; return the folder."""
    import tokenizers
    import transformers

    def save(family):
        if family not in made:
            name, values = FAMILIES[family]
            made[family] = str(tmp_path_factory.mktemp(family))
            torch.manual_seed(0)
            config = getattr(transformers, name)(**values)
            transformers.AutoModelForCausalLM.from_config(config).save_pretrained(made[family])
            tokenizer.save_pretrained(made[family])
        return made[family]

    words = ["[UNK]", *"abc", *contract.TASK.vocabulary]
    level = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    inner = tokenizers.Tokenizer(level)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    tokenizer.save_pretrained(gpt2_checkpoint)
    made = {"gpt2": gpt2_checkpoint}
    return save


def model(name, seed=0, **changed):
    torch.manual_seed(seed)
    names = contract.TASK.vocabulary
    return Pretrained(
        **{"vocabulary_size": V, "context_length": contract.CONTEXT, "name": name, **changed}
        | {"token_names": names}
    ).double()


def tokens(rows=3):
    return torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "mamba"])
@torch.no_grad()
def test_native_tokens_give_the_checkpoint_s_own_logits(checkpoint, family):
    import transformers

    own = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(family)).double()
    ours = model(checkpoint(family), vocabulary="native")
    logits = own(4 + tokens()).logits[:, :, 4 : 4 + V]  # the tokenizer knows four tokens before
    # Some of transformers' models return logits in single precision whatever they compute in.
    torch.testing.assert_close(ours.logits(ours(tokens())).float(), logits.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "mamba"])
def test_contract(checkpoint, family):
    name = checkpoint(family)
    contract.check_causal(model(name), T)
    contract.check_cache(model(name), tokens(), P, rtol=1e-6, atol=1e-7)
    contract.check_embeddings_and_state_dict(model(name), model(name, seed=1), tokens())
    contract.check_bfloat16(model(name).float(), tokens())
    contract.check_meta(lambda: model(name))
    with torch.device("meta"):
        shapes = {key: weight.shape for key, weight in model(name).state_dict().items()}
    assert shapes == {key: weight.shape for key, weight in model(name).state_dict().items()}


@pytest.mark.parametrize(
    ("family", "kind", "name"),
    [
        ("gpt2", "GPT2Model", "past_key_values"),
        ("gpt2", "GPT2Model", "cache"),
        ("mamba", "MambaModel", "cache_params"),
        ("mamba", "MambaModel", "cache"),
        ("gpt2", "GPT2Model", "memory"),
    ],
)
def test_every_version_s_name_of_the_cache(checkpoint, monkeypatch, family, kind, name):
    """The installed model with the signature of another version of transformers."""
    import transformers

    kind = getattr(transformers, kind)
    native = kind.forward
    known = inspect.signature(native).parameters
    own = next(key for key in module.CACHE_NAMES if key in known)

    def call(self, ids, cache, options):
        if cache is not None:
            options[own] = cache
            if own == "cache_params" and "cache_position" in known:
                options["cache_position"] = torch.tensor([T])
        output = native(self, ids, **options)
        if own in output:
            output[name] = output[own]
        return output

    def old_transformer(self, input_ids=None, past_key_values=None, **options):
        return call(self, input_ids, past_key_values, options)

    def old_recurrent(self, input_ids=None, cache_params=None, cache_position=None, **options):
        if cache_params is not None and cache_position is None:
            raise ValueError("You have to specify the `cache_position`")
        return call(self, input_ids, cache_params, options)

    def new(self, input_ids=None, cache=None, **options):
        return call(self, input_ids, cache, options)

    def unknown(self, input_ids=None, memory=None, **options):
        return call(self, input_ids, memory, options)

    versions = {
        "past_key_values": old_transformer,
        "cache_params": old_recurrent,
        "cache": new,
        "memory": unknown,
    }
    monkeypatch.setattr(kind, "forward", versions[name])
    if name == "memory":
        with pytest.raises(
            InputError, match=r"^model.name=\S+: GPT2Model of transformers 5\S+ takes no cache or "
        ):
            model(checkpoint(family))
        return
    assert model(checkpoint(family)).backbone.cache_name == name
    contract.check_cache(model(checkpoint(family)), tokens(), P, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("objective", contract.OBJECTIVES)
def test_objectives(checkpoint, objective):
    contract.check_objective(lambda: model(checkpoint("gpt2")).float(), objective)


def test_a_separate_output_layer_is_kept(checkpoint):
    name = checkpoint("llama")
    assert model(checkpoint("gpt2")).output is None
    assert isinstance(model(name).output, OutputLayer)  # the type that Muon leaves to AdamW
    assert not torch.equal(model(name).output.weight, model(name).embedding.weight)
    contract.check_objective(lambda: model(name).float(), BeliefState)


def test_added_rows_are_like_the_old_ones(checkpoint):
    import transformers

    old = transformers.AutoModel.from_pretrained(checkpoint("gpt2")).get_input_embeddings().weight
    new = model(checkpoint("gpt2"), vocabulary_size=5000).float().embedding.weight
    torch.testing.assert_close(new.mean(0), old.mean(0), rtol=0, atol=2e-3)
    torch.testing.assert_close(new.std(0), old.std(0), rtol=0.05, atol=0)


def test_nothing_is_dropped_in_training(checkpoint):
    ours = model(checkpoint("gpt2")).train()
    assert ours.backbone.model.config.resid_pdrop > 0
    torch.testing.assert_close(ours(tokens()), ours(tokens()), rtol=0, atol=0)


def test_lora_trains_only_its_matrices_and_the_embedding(checkpoint):
    pytest.importorskip("peft", reason="needs the extra [pretrained]")
    whole, ours = model(checkpoint("gpt2")), model(checkpoint("gpt2"), lora_rank=2)
    torch.testing.assert_close(ours(tokens()), whole(tokens()))  # nothing added before the first step
    trained = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in ours.named_parameters() if "lora" in name or "embedding" in name}
    matrices = [p for name, p in ours.named_parameters() if "lora" in name]
    assert len(matrices) == 2 * 4 * 2  # two for each of four linear layers of each of two blocks
    assert all(2 in matrix.shape for matrix in matrices)
    contract.check_objective(lambda: model(checkpoint("gpt2"), lora_rank=2).float(), NextToken)
    contract.check_meta(lambda: model(checkpoint("gpt2"), lora_rank=2))
    assert all(parameter.requires_grad for parameter in ours.twin().parameters())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_fresh_twin_shares_only_the_embedding(checkpoint, family):
    ours = model(checkpoint(family))
    twin = ours.twin()
    assert twin.embedding is ours.embedding
    assert twin.output is None, "what is never asked for would stop DDP"
    before = dict(ours.backbone.named_parameters())
    for name, parameter in twin.backbone.named_parameters():
        if parameter.ndim == 2:
            assert not torch.isclose(parameter, before[name]).any(dim=1).all()
            assert parameter.std().item() == pytest.approx(before[name].std().item(), rel=0.5)
    assert not torch.allclose(twin(tokens()), ours(tokens()))


@torch.no_grad()
def test_a_further_block_sees_the_past_and_adds_to_the_stream(checkpoint):
    ours = model(checkpoint("gpt2"))
    layer, hidden = ours.new_layer().double(), ours(tokens())
    out = ours(hidden, layers=[layer])
    torch.testing.assert_close(ours(hidden[:, :4], layers=[layer]), out[:, :4])
    assert F.cosine_similarity(out, hidden, dim=2).min() > 0.9


def test_the_task_s_tokens_reach_the_model_through_the_command_line(checkpoint):
    choices = ["model=pretrained", "model.vocabulary=native", "experiment=smoke"]
    choices += ["task.path_length=4", f"model.name={checkpoint('gpt2')}"]
    (fits,) = Composer([*choices, "task.num_nodes=8"]).cells()
    check(fits.config)
    (lacks,) = Composer([*choices, "task.num_nodes=9"]).cells()
    with pytest.raises(Impossible, match=r"^model.vocabulary=native: '8' is not one token of .*added$"):
        check(lacks.config)


def test_errors(checkpoint):
    name = checkpoint("gpt2")
    for mask in ("prefix", "full"):
        with pytest.raises(Impossible, match=f"model.mask={mask}: .*Pretrained.*causal"):
            model(name, mask=mask)
    with pytest.raises(Impossible, match=r"^model.name=\S+: .*129 tokens.* at most 128"):
        model(name, context_length=129)
    with pytest.raises(InputError, match=r"^model.vocabulary=native: .*token_names"):
        Pretrained(V, T, name, vocabulary="native")
    with pytest.raises(InputError, match=r"^model.name=\S+: BertModel .*causal"):
        model(checkpoint("bert"))
    with pytest.raises(InputError, match=r"^model.name=\S+: .*scale their embeddings or logits"):
        model(checkpoint("gemma"))
    for objective in (AnyOrder, RegisterTokens, Myopic):
        with pytest.raises(Impossible, match="model: Pretrained"):
            objective(model(name), contract.TASK)


@pytest.mark.parametrize("config", [None, "{}", "no json", '{"model_type": "vit"}', '{"model_type": "gpt2"}'])
def test_a_folder_without_a_model(gpt2_checkpoint, tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"^model.name=\S+: cannot be loaded \(.+\); .* folder .+$"):
        model(str(tmp_path))


def test_an_unknown_name(gpt2_checkpoint, monkeypatch):
    monkeypatch.setattr(module, "hub_answers", lambda: False)
    for name in ("no/such-model", "/no/such/folder", "not a name"):
        with pytest.raises(InputError, match=f"^model.name={name}: cannot be loaded .*hub$"):
            model(name)
        with torch.device("meta"), pytest.raises(InputError, match=f"^model.name={name}: cannot be loaded"):
            model(name)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(
        InputError, match=r"^model.name=gpt2: transformers is missing; .*'\.\[pretrained\]'`$"
    ):
        model("gpt2")


def test_without_peft(checkpoint, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match=r"^model.lora_rank=2: peft is missing; .*'\.\[pretrained\]'`$"):
        model(checkpoint("gpt2"), lora_rank=2)
