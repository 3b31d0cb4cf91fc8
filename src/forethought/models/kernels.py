"""Operations for which PyTorch has better kernels for a CPU than its compiler writes.

The compiler's GELU takes 1.1 to 1.9 times as long (fp32, bf16; there and back). Its gradient of an embedding
adds number by number, atomically, from two threads on: 2 to 8 times as long. Outside a compiled model, and on
other devices, these are PyTorch's own of the same names.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

aten = torch.ops.aten


def gelu(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Exact GELU (Hendrycks & Gimpel, 1606.08415)."""
    return _gelu(x) if _compiled_for_cpu(x) else F.gelu(x)


class Embedding(nn.Embedding):
    """A row of `weight` for each token."""

    def forward(self, tokens: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        weight = self.weight
        return _embedding(tokens, weight) if _compiled_for_cpu(weight) else F.embedding(tokens, weight)


def _compiled_for_cpu(x: Tensor) -> bool:
    return torch.compiler.is_compiling() and x.device.type == "cpu"


@torch.library.custom_op("forethought::gelu", mutates_args=())
def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x)


@torch.library.custom_op("forethought::gelu_backward", mutates_args=())
def _gelu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    result: Tensor = aten.gelu_backward(gradient, x)
    return result


@torch.library.custom_op("forethought::embedding", mutates_args=())
def _embedding(tokens: Tensor, weight: Tensor) -> Tensor:
    return F.embedding(tokens, weight)


@torch.library.custom_op("forethought::embedding_backward", mutates_args=())
def _embedding_backward(gradient: Tensor, tokens: Tensor, count: int) -> Tensor:
    result: Tensor = aten.embedding_dense_backward(gradient, tokens, count, -1, False)
    return result


# What the compiler is told of each: shapes, and what to call for the gradient.
_gelu.register_fake(torch.empty_like)
_gelu_backward.register_fake(lambda gradient, x: torch.empty_like(x))
_gelu.register_autograd(
    lambda ctx, gradient: _gelu_backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
_embedding.register_fake(lambda tokens, weight: weight.new_empty(*tokens.shape, weight.shape[1]))
_embedding_backward.register_fake(
    lambda gradient, tokens, count: gradient.new_empty(count, gradient.shape[-1])
)


def _keep_tokens(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(inputs[0])
    ctx.count = len(inputs[1])


_embedding.register_autograd(
    lambda ctx, gradient: (None, _embedding_backward(gradient, *ctx.saved_tensors, ctx.count)),
    setup_context=_keep_tokens,
)
