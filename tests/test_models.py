"""The base class of the models, and the contract of every model with the objectives."""

import math
import pkgutil

import contract
import pytest
import torch
from helpers import CONF, STAR, choices
from omegaconf import OmegaConf
from torch import nn

from forethought.errors import Impossible
from forethought.evaluation import diagnose
from forethought.models import GPT, LSTM, InfiniGPT, LoopedGPT, Mamba, Mamba2, Model
from forethought.models.layers import Layer
from forethought.objectives.any_order import AnyOrder
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.lookahead_insertion import LookaheadInsertion
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.myopic import Myopic
from forethought.objectives.next_token import NextToken
from forethought.objectives.register_tokens import RegisterTokens
from forethought.tasks import Draws


class Mean(Layer):
    def init_cache(self, batch_size, length):
        return [0]

    def forward(self, x, context):
        total = x.cumsum(1) + (context.cache[0] if context.cache else 0)
        if context.cache:
            context.cache[0] = total[:, -1:]
        return total / (context.past + torch.arange(1, x.shape[1] + 1))[:, None]


class Smallest(Model):
    """No more than the base class requires: each hidden state is the mean of the embeddings so far."""

    def __init__(self, vocabulary_size, context_length, width=8, mask="causal", token_names=()):
        super().__init__(width, mask)
        self.context_length, self.token_names = context_length, token_names
        self.embedding, self.norm, self.layers = nn.Embedding(vocabulary_size, width), nn.Identity(), [Mean()]

    layers = None

    def new_layer(self):
        return Mean()


def test_for_task():
    model = Smallest.for_task(STAR, extra_positions=3, width=4)
    assert model.embedding.weight.shape == (len(STAR.vocabulary), 4)
    assert model.context_length == STAR.prompt_length + STAR.answer_length + 3
    assert model.token_names == STAR.vocabulary


@pytest.mark.parametrize("objective", [NextToken, LookaheadInsertion, BeliefState, MultiToken])
def test_the_smallest_model_serves_every_objective_without_attention(objective):
    contract.check_cache(Smallest(7, 9).double(), torch.randint(7, (3, 9)), 5)
    contract.check_objective(lambda: Smallest.for_task(contract.TASK, 4), objective)


def test_missing_abilities_are_named():
    model = Smallest.for_task(STAR)
    for objective in (AnyOrder, RegisterTokens, Myopic):
        with pytest.raises(Impossible, match=r"^model: Smallest has no .*; use gpt or looped_gpt"):
            objective(model, STAR)
    with pytest.raises(Impossible, match=r"^model\.mask=full: .*Smallest.*causal"):
        Smallest.for_task(STAR, mask="full")


@pytest.mark.parametrize("name", choices("model"))
def test_for_task_of_every_model(name, request):
    kind = pkgutil.resolve_name(OmegaConf.load(CONF / "model" / f"{name}.yaml")["_target_"])
    assert issubclass(kind, Model)
    options = {"name": request.getfixturevalue("gpt2_checkpoint")} if name == "pretrained" else {}
    with torch.device("meta"):
        model = kind.for_task(STAR, **options)
    assert model.embedding.weight.shape == (len(STAR.vocabulary), model.width)
    assert model.mask in kind.masks


V, T, P = 11, 11, 6
MODELS = {
    "gpt": (GPT, {"heads": 4}),
    "infini_gpt": (InfiniGPT, {"heads": 2, "segment_length": 4}),
    "infini_gpt-delta": (InfiniGPT, {"heads": 2, "segment_length": 4, "update": "delta"}),
    "looped_gpt": (LoopedGPT, {"heads": 4, "loops": 3}),
    "lstm": (LSTM, {}),
    "mamba": (Mamba, {"state_size": 5}),
    "mamba2": (Mamba2, {"state_size": 5, "head_width": 8, "chunk": 4}),
}
every_model = pytest.mark.parametrize("name", MODELS)


def model(name, seed=0, **changed):
    torch.manual_seed(seed)
    kind, options = MODELS[name]
    sizes = {"vocabulary_size": V, "context_length": T, "layers": 2, "width": 16}
    net = kind(**sizes | options | changed).double()
    for parameter in net.parameters():  # away from the initial symmetry, gates too
        nn.init.normal_(parameter, std=0.3)
    return net


def model_for_task(name):
    sizes = {"vocabulary_size": len(contract.TASK.vocabulary), "context_length": contract.CONTEXT}
    return model(name, **sizes).float()


@every_model
def test_contract(name):
    tokens = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))
    contract.check_causal(model(name), T)
    contract.check_cache(model(name), tokens, P)
    contract.check_embeddings_and_state_dict(model(name), model(name, seed=1), tokens)
    contract.check_bfloat16(model(name).float(), tokens)
    contract.check_meta(lambda: model(name))


@pytest.mark.parametrize("objective", [*contract.OBJECTIVES, AnyOrder, Myopic, RegisterTokens])
@every_model
def test_objectives(name, objective):
    kind, _ = MODELS[name]
    if objective in contract.OBJECTIVES or kind in (GPT, LoopedGPT):
        contract.check_objective(lambda: model_for_task(name), objective)
        return
    with pytest.raises(Impossible, match=f"model: {kind.__name__} has no .*; use gpt or looped_gpt"):
        objective(model_for_task(name), contract.TASK)


@every_model
def test_unsupported_masks_are_rejected(name):
    kind, _ = MODELS[name]
    for mask in {"prefix", "full"} - {*kind.masks}:
        with pytest.raises(Impossible, match=f"model.mask={mask}: .*{kind.__name__}.*causal"):
            model(name, mask=mask)


gpts = pytest.mark.parametrize("name", ["gpt", "looped_gpt"])
causal_or_prefix = pytest.mark.parametrize("mask", ["causal", "prefix"])


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@causal_or_prefix
@gpts
def test_cache_of_a_gpt(name, mask, positions):
    contract.check_cache(model(name, mask=mask, positions=positions), torch.randint(V, (3, T)), P)


@causal_or_prefix
@gpts
def test_myopic_attention_changes_gradients_alone(name, mask):
    contract.check_myopic(model(name, mask=mask), torch.randint(V, (1, T)), P)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GPT, {"layers": 8}),
        (InfiniGPT, {"layers": 8, "segment_length": 4}),
        (LoopedGPT, {"layers": 2, "loops": 4}),
    ],
)
def test_initialisation_is_gpt2s(kind, options):
    """Weights of residual layers are scaled by the depth, also in a new block."""
    torch.manual_seed(0)
    net = kind(500, 50, width=128, heads=4, **options)
    for name, parameter in [*net.named_parameters(), *net.new_layer().named_parameters()]:
        if name.endswith(("attention.output.weight", "mlp.output.weight")):
            assert parameter.std().item() == pytest.approx(0.02 / math.sqrt(2 * 8), rel=0.05)
        elif parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05)
        else:
            assert (parameter == float(name.endswith("norm.weight"))).all()


@pytest.mark.parametrize(
    ("name", "options", "blocks"),
    [
        ("gpt", {"mask": "prefix"}, "blocks"),
        ("infini_gpt", {}, "blocks"),
        ("lstm", {}, "stack"),
        ("mamba", {}, "backbone.layers"),
        ("mamba2", {}, "backbone.layers"),
    ],
)
@torch.no_grad()
def test_a_new_layer_is_one_more(name, options, blocks):
    net, deeper, tokens = model(name, **options), model(name, **options), torch.randint(V, (3, T))
    block = net.new_layer().double()
    deeper.get_submodule(blocks).append(block)
    hidden = net(tokens, P, norm=False)
    torch.testing.assert_close(net(hidden, P, layers=[block]), deeper(tokens, P))


@every_model
def test_self_speculation(name):
    objective = MultiToken(model_for_task(name), contract.TASK, horizon=2, speculate=True)
    rows = contract.TASK.sample(4, Draws(0))
    assert objective.generate(rows.prompt, 3).shape == (4, 3)
    assert "model_calls" in diagnose(objective, contract.TASK, rows)
