"""Operations for which PyTorch's CPU kernels are faster than those of its compiler.

The compiler's GELU is 1.1 to 1.9× slower (fp32, bf16; forward and backward). Its gradient of an embedding is
2 to 8× slower with two or more threads, because it adds atomically, number by number. Outside a compiled
model, and on other devices, these operations are PyTorch's own of the same names.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

aten = torch.ops.aten


def gelu(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Apply the exact GELU (Hendrycks & Gimpel, 1606.08415)."""
    return _gelu(x) if _compiled_for_cpu(x) else F.gelu(x)


class Embedding(nn.Embedding):
    """Table with one row of `weight` for each token."""

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


# The compiler cannot look into custom operators: register their output shapes and gradients.
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
