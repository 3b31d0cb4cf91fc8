"""What Mamba and Mamba-2 have in common: state, causality, names, new weights, kernels, objectives."""

import copy
import sys
import types
import warnings

import pytest
import torch

from forethought.errors import Impossible, InputError
from forethought.evaluation import diagnose
from forethought.evaluation.grad_flow import grad_flow
from forethought.models import Mamba, Mamba2, mamba, mamba2, state_space
from forethought.objectives import NextToken
from forethought.objectives.any_order import AnyOrder
from forethought.objectives.belief_state import BeliefState, fresh_twin
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.myopic import Myopic
from forethought.objectives.register_tokens import RegisterTokens
from forethought.objectives.teacherless import Teacherless
from forethought.run.optimizer import split_by_decay
from forethought.tasks import Draws, PathStar

V, T, P = 11, 9, 5
SMALL = {Mamba: {"state_size": 5}, Mamba2: {"state_size": 5, "head_width": 8, "chunk": 4}}
both = pytest.mark.parametrize("kind", [Mamba, Mamba2], ids=["mamba", "mamba2"])


def model(kind, vocabulary=V, **changed):
    torch.manual_seed(0)
    return kind(vocabulary, T, **{"layers": 2, "width": 16, **SMALL[kind], **changed}).double()


def tokens(rows=3, length=T):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


@both
@torch.no_grad()
def test_a_state_gives_what_one_pass_gives(kind):
    net, batch = model(kind), tokens()
    whole = net(batch)
    for pieces in ([1] * T, [P, 1, 1, 1, 1], [P, 3, 1], [2, P, 2], [T]):
        cache = net.init_cache(len(batch), T)
        sizes = [part.ssm.numel() + part.window.numel() for part in cache.mixers]
        parts = [net(piece, P, cache) for piece in batch.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert sizes == [part.ssm.numel() + part.window.numel() for part in cache.mixers]


@both
def test_gradients_flow_through_a_state(kind):
    net, batch = model(kind), tokens()
    torch.manual_seed(2)
    weight = torch.randn(3, T, 16, dtype=torch.float64)
    (net(batch) * weight).sum().backward()
    whole = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if "lm_" not in name}
    net.zero_grad()
    cache = net.init_cache(3, T)
    (torch.cat([net(piece, 0, cache) for piece in batch.split([4, 1, 4], 1)], 1) * weight).sum().backward()
    for name, gradient in whole.items():
        torch.testing.assert_close(dict(net.named_parameters())[name].grad, gradient)


@both
def test_each_token_sees_itself_and_the_past(kind):
    net = model(kind)
    x = net.embed(tokens(1)).detach().requires_grad_()
    hidden = net(x)
    for i in range(T):
        (gradient,) = torch.autograd.grad(hidden[0, i].sum(), x, retain_graph=True)
        assert [j for j in range(T) if gradient[0, j].abs().max() > 0] == list(range(i + 1))


@both
@torch.no_grad()
def test_embeddings_in_place_of_tokens_and_a_shared_output(kind):
    net, batch = model(kind), tokens()
    hidden = net(net.embed(batch))
    torch.testing.assert_close(hidden, net(batch))
    torch.testing.assert_close(net.logits(hidden), hidden @ net.embedding.weight.T)


@both
@torch.no_grad()
def test_a_state_dict_moves(kind):
    net = model(kind)
    other = kind(V, 3, layers=2, width=16, **SMALL[kind]).double()
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(tokens()), net(tokens()))
    assert other.lm_head.weight is other.embedding.weight


@both
@torch.no_grad()
def test_a_further_block_is_one_more_layer(kind):
    net, deeper, batch = model(kind), model(kind), tokens()
    block = net.new_block().double()
    deeper.backbone.layers.append(block)
    norm, net.backbone.norm_f = net.backbone.norm_f, torch.nn.Identity()
    hidden = net(batch)
    net.backbone.norm_f = norm
    torch.testing.assert_close(net.run_block(block, hidden, P), deeper(batch))


@both
def test_a_twin_shares_the_embedding_and_nothing_else(kind):
    net = model(kind)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    twin = fresh_twin(net)
    assert twin.embedding is net.embedding
    assert twin.lm_head.weight is net.embedding.weight
    assert twin.state_dict().keys() == net.state_dict().keys()
    for name, parameter in twin.named_parameters():
        assert (parameter is net.get_parameter(name)) == ("embedding" in name)
        if parameter.ndim > 1 and "embedding" not in name and "A_log" not in name:
            assert not torch.equal(parameter, net.get_parameter(name)), name
    for name, tensor in net.state_dict().items():
        if "embedding" not in name and "lm_head" not in name:  # drawn anew by the twin, before it let go
            assert torch.equal(tensor, before[name])
    assert len(split_by_decay(twin)[1]) == len(split_by_decay(net)[1])


@both
def test_decay_rates_skips_and_step_biases_take_no_weight_decay(kind):
    sent = copy.deepcopy(model(kind))  # as to another process, which drops what parameters are marked by
    for net in (model(kind), fresh_twin(model(kind)), sent):
        names = {id(parameter): name for name, parameter in net.named_parameters()}
        decayed = {names[id(parameter)].split(".", 3)[-1] for parameter in split_by_decay(net)[0]}
        expected = {f"mixer.{part}.weight" for part in ("in_proj", "conv1d", "out_proj")}
        further = {"mixer.x_proj.weight", "mixer.dt_proj.weight"} if kind is Mamba else set()
        assert decayed == expected | further


@both
def test_initial_weights_have_their_scales(kind):
    torch.manual_seed(0)
    net = kind(500, T, layers=8, width=128)
    assert net.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for name, parameter in net.named_parameters():
        if name.endswith("out_proj.weight"):  # PyTorch's uniform in ±1/sqrt(256), over sqrt(layers)
            assert parameter.std().item() == pytest.approx((256 * 3 * 8) ** -0.5, rel=0.05)
        elif name.endswith("in_proj.weight"):
            assert parameter.std().item() == pytest.approx((128 * 3) ** -0.5, rel=0.05)
        elif "norm" in name or name.endswith(".D"):
            assert (parameter == 1).all()
        elif name.endswith(("dt_proj.bias", "dt_bias")):
            step = torch.nn.functional.softplus(parameter.double())
            assert step.min() >= 1e-3 * 0.999
            assert step.max() <= 1e-1 * 1.001


@both
def test_built_without_memory(kind):
    with torch.device("meta"):
        assert model(kind, width=1024).embedding.weight.is_meta


@both
def test_half_precision(kind):
    net, batch = model(kind).float(), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = net(batch)
        hidden.sum().backward()
        cache = net.init_cache(3, T)
        parts = torch.cat([net(piece, 0, cache) for piece in batch.split(1, 1)], 1)
    torch.testing.assert_close(hidden.float(), net(batch), rtol=0.05, atol=0.1)
    torch.testing.assert_close(parts.float(), net(batch), rtol=0.05, atol=0.1)
    assert all(part.ssm.dtype == torch.float32 for part in cache.mixers)
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@both
def test_objectives_train_and_answer(kind):
    task = PathStar(degree=2, path_length=3, num_nodes=6)
    rows = task.sample(4, Draws(0))
    for make in (
        NextToken,
        Teacherless,
        BeliefState,
        lambda net, task: MultiToken(net, task, horizon=2),
        lambda net, task: MultiToken(net, task, horizon=2, speculate=True),
    ):
        objective = make(model(kind, len(task.vocabulary)), task).double()
        objective.loss(rows).backward()
        assert all(parameter.grad is not None for parameter in objective.parameters())
        assert objective.generate(rows.prompt, 3).shape == (4, 3)
        assert "accuracy" in diagnose(objective, rows)
    flow = grad_flow(NextToken(model(kind, len(task.vocabulary)), task), rows)
    assert flow.shape == (3, task.prompt_length + 2)
    assert flow[-1].min() > 0


@both
def test_refusals_by_name(kind):
    for mask in ("prefix", "full"):
        with pytest.raises(Impossible, match=f"model.mask={mask}: Mamba reads from left to right"):
            model(kind, mask=mask)
    task = PathStar(degree=2, path_length=3, num_nodes=6)
    for objective in (AnyOrder, Myopic, RegisterTokens):
        with pytest.raises(Impossible, match=f"model: {kind.__name__} has no"):
            objective(model(kind, len(task.vocabulary)), task)


@pytest.fixture
def kernels(monkeypatch):
    """A stand-in for mamba-ssm, made of our own scans behind its signatures, and what it was called with."""
    calls = []

    def selective_scan_fn(u, delta, A, B, C):
        assert u.shape == delta.shape
        assert A.shape == (u.shape[1], B.shape[1])
        calls.append("selective_scan_fn")
        return mamba.selective_scan(u.mT, delta.mT, A, B.mT, C.mT)[0].mT

    def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size):
        assert B.shape[2] == 1
        calls.append("mamba_chunk_scan_combined")
        return mamba2.ssd(x, dt, A, B[:, :, 0], C[:, :, 0], chunk_size)[0]

    for path, function in (
        ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
        ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
    ):
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, name, sys.modules.get(name) or types.ModuleType(name))
            if end > 1:
                monkeypatch.setattr(
                    sys.modules[name.rpartition(".")[0]], parts[end - 1], sys.modules[name], raising=False
                )
        monkeypatch.setattr(sys.modules[path], function.__name__, function, raising=False)
    state_space.load_kernel.cache_clear()
    yield calls
    state_space.load_kernel.cache_clear()


class OnCuda(torch.Tensor):
    """Says that it lies on a GPU."""

    is_cuda = True


@both
@torch.no_grad()
def test_kernels_are_called_as_they_are_declared(kind, kernels, monkeypatch):
    net, batch = model(kind, backend="mamba_ssm"), tokens()
    expected = model(kind)(batch)
    with pytest.raises(InputError, match="backend=mamba_ssm: its kernels run on cuda in float32, not on cpu"):
        net(batch)
    kernel = mamba.SCAN_KERNEL if kind is Mamba else mamba2.SSD_KERNEL
    module = sys.modules[kind.__module__]
    monkeypatch.setattr(module, "kernel_for", lambda x, backend, name: state_space.load_kernel(name))
    torch.testing.assert_close(net(batch), expected)
    assert kernels == [kernel.partition(":")[2]] * 2
    net(batch, 0, net.init_cache(3, T))  # with a cache: plain PyTorch
    assert len(kernels) == 2


@both
def test_which_backend_runs(kind, kernels):
    kernel = mamba.SCAN_KERNEL if kind is Mamba else mamba2.SSD_KERNEL
    there, here = torch.ones(2).as_subclass(OnCuda), torch.ones(2)
    assert state_space.kernel_for(there, "auto", kernel) is state_space.load_kernel(kernel)
    assert state_space.kernel_for(there, "mamba_ssm", kernel) is state_space.load_kernel(kernel)
    assert state_space.kernel_for(there.double(), "auto", kernel) is None
    assert state_space.kernel_for(there, "torch", kernel) is None
    assert state_space.kernel_for(here, "auto", kernel) is None


@pytest.mark.skipif("mamba_ssm" in sys.modules, reason="speaks of its absence")
@both
def test_without_kernels(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # its import fails
    state_space.load_kernel.cache_clear()
    state_space.warn_once.cache_clear()
    with pytest.raises(InputError, match=r"model.backend=mamba_ssm: cannot be imported") as refusal:
        model(kind, backend="mamba_ssm")
    assert "\n" not in str(refusal.value)
    kernel = mamba.SCAN_KERNEL if kind is Mamba else mamba2.SSD_KERNEL
    with pytest.warns(UserWarning, match="plain PyTorch on this GPU"):
        assert state_space.kernel_for(torch.ones(2).as_subclass(OnCuda), "auto", kernel) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert state_space.kernel_for(torch.ones(2).as_subclass(OnCuda), "auto", kernel) is None
    state_space.load_kernel.cache_clear()
