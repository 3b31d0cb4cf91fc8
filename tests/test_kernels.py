"""The operators of a compiled model equal PyTorch's own kernels, bit by bit."""

import pytest
import torch
import torch.nn.functional as F

from forethought.models.kernels import Embedding, gelu


@pytest.fixture
def compiling(monkeypatch):
    """Pretend to compile: the real compiler cannot trace the shape checks of the tests."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


def assert_same(found, expected, parameter):
    assert "forethought" in str(found.grad_fn)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(output.square().sum(), parameter)[0] for output in (found, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu(compiling, dtype):
    x = torch.linspace(-6, 6, 1001, dtype=dtype, requires_grad=True)
    assert_same(gelu(x), F.gelu(x), x)


def test_embedding(compiling):
    embedding, tokens = Embedding(7, 4), torch.randint(7, (3, 5))
    assert_same(embedding(tokens), F.embedding(tokens, embedding.weight), embedding.weight)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (torch.ops.forethought.gelu, (torch.randn(3, 4, requires_grad=True),)),
        (torch.ops.forethought.embedding, (torch.tensor([[1, 0]]), torch.randn(2, 3, requires_grad=True))),
    ],
    ids=["gelu", "embedding"],
)
def test_registration_of_the_operators(operator, arguments):
    torch.library.opcheck(operator, arguments)
