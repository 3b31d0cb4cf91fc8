"""GELU by PyTorch's own kernel, also in a model that is compiled for a CPU.

What the compiler makes of it there takes 1.3 to 1.9 times as long (bf16, fp32; forward and back).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def gelu(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Exact GELU (Hendrycks & Gimpel, 1606.08415)."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return _opaque(x)
    return F.gelu(x)


@torch.library.custom_op("forethought::gelu", mutates_args=())
def _opaque(x: Tensor) -> Tensor:
    return F.gelu(x)


@torch.library.custom_op("forethought::gelu_backward", mutates_args=())
def _backward(gradient: Tensor, x: Tensor) -> Tensor:
    result: Tensor = torch.ops.aten.gelu_backward(gradient, x)
    return result


_opaque.register_fake(torch.empty_like)
_backward.register_fake(lambda gradient, x: torch.empty_like(x))
_opaque.register_autograd(
    lambda ctx, gradient: _backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
