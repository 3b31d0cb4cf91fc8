"""Mamba: a selective state space model, in plain PyTorch or with mamba-ssm's CUDA kernel."""

import math
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from forethought.models.base import Conv
from forethought.models.short_conv import causal_conv
from forethought.models.state_space import (
    Backend,
    Kernel,
    MixerCache,
    StateSpaceModel,
    full_precision,
    require_backend,
    reset_step_bias,
    run_kernel,
    skip,
)
from forethought.validation import Layers, validated

SCAN_KERNEL = Kernel(
    "mamba_ssm.ops.selective_scan_interface:selective_scan_fn",
    lambda scan, u, step, decay, write, read: scan(u.mT, step.mT, decay, write.mT, read.mT).mT,
)

TILE_BYTES = 300_000
"""Largest size of the states of one tile of rows, which must stay in a core's cache."""

SEGMENT = 16
"""Steps between the states kept by the forward pass. With N = 16, they take as much memory as the input."""


class Mamba(StateSpaceModel):
    """Mamba-1: each channel has N states; each token sets the rates at which they decay and are written.

    State dicts move to and from mamba-ssm's `Mamba` (see `StateSpaceModel`).

    Source: Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2312.00752), §3.

    Args:
        state_size: N, states of each channel.
        expand: E = expand * D channels inside a mixer.
        conv_width: tokens under the causal convolution.
        backend: `torch`, `mamba_ssm` or `auto`, which takes mamba-ssm's kernel on CUDA if it can be
            called. Decoding with a cache is always plain PyTorch: the kernel takes no initial state.
        others: as for `Model`.

    Raises:
        InputError: `mamba_ssm` cannot be imported or called, or does not support the device.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers = 3,
        width: PositiveInt = 64,
        state_size: PositiveInt = 16,
        expand: PositiveInt = 2,
        conv_width: PositiveInt = 4,
        backend: Backend = "auto",
        mask: Literal["causal", "prefix", "full"] = "causal",
        conv: Conv = "none",
    ) -> None:
        require_backend(backend, SCAN_KERNEL)
        new_mixer = partial(MambaMixer, width, state_size, expand, conv_width, backend)
        super().__init__(vocabulary_size, layers, width, new_mixer, mask, conv)


class MambaMixer(nn.Module):
    """Convolution and selective scan of one branch, gated by the other; E = expand * D channels each."""

    no_weight_decay = ("A_log",)  # by default, all parameters with two axes decay

    def __init__(self, width: int, state_size: int, expand: int, conv_width: int, backend: Backend) -> None:
        super().__init__()
        inner, self.rank = expand * width, math.ceil(width / 16)
        self.backend = backend
        self.A_log = nn.Parameter(torch.empty(inner, state_size))
        self.D = nn.Parameter(torch.empty(inner))
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv_width, groups=inner, padding=conv_width - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def reset_parameters(self) -> None:
        """Set A = -1 … -N in every channel, and draw small initial steps (Gu & Dao, §3.6)."""
        decay = torch.arange(1.0, self.A_log.shape[1] + 1, device=self.A_log.device)
        with torch.no_grad():
            self.A_log.copy_(decay.log().expand_as(self.A_log))
        nn.init.ones_(self.D)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        reset_step_bias(self.dt_proj.bias)

    def init_cache(self, batch_size: int) -> MixerCache:
        inner, state_size = self.A_log.shape
        return MixerCache(
            self.D.new_zeros(batch_size, self.conv1d.kernel_size[0] - 1, inner),
            self.D.new_zeros(batch_size, state_size, inner),
        )

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        cache: MixerCache | None = None,
        padding: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        x, gate = self.in_proj(x).chunk(2, 2)
        x, window = causal_conv(self.conv1d, skip(x, padding), cache.window if cache else None)
        x = F.silu(x)
        states = self.A_log.shape[1]
        step, write, read = self.x_proj(x).split([self.rank, states, states], 2)
        # Add the bias in full precision: bf16 would change the smallest steps by some percent.
        step = F.softplus(full_precision(F.linear(step, self.dt_proj.weight)) + self.dt_proj.bias)
        step = skip(step, padding)  # a step of zero leaves the state as it is
        decay = -full_precision(self.A_log).exp()
        inputs = (full_precision(x), step, decay, full_precision(write), full_precision(read))
        if cache:
            y, cache.ssm = selective_scan(*inputs, cache.ssm)
            cache.window = window
        elif (y := run_kernel(SCAN_KERNEL, self.backend, inputs)) is None:
            y, _ = selective_scan(*inputs)
        return self.out_proj((y + self.D * x) * F.silu(gate))


@torch.compiler.disable  # the compiler would unroll thousands of steps, without a gain
def selective_scan(
    u: Float[Tensor, "B T E"],
    step: Float[Tensor, "B T E"],
    decay: Float[Tensor, "E N"],
    write: Float[Tensor, "B T N"],
    read: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N E"] | None = None,
) -> tuple[Float[Tensor, "B T E"], Float[Tensor, "B N E"]]:
    """Compute h_t = exp(step_t A) h_{t-1} + step_t write_t u_t and y_t = read_t · h_t in every channel.

    In the paper's letters: Δ is `step`, A `decay`, B `write`, C `read` (2312.00752, §3.2, alg. 2).

    Returns:
        y, and h after the last step.
    """
    if initial is None:
        initial = u.new_zeros(len(u), decay.shape[1], u.shape[2])
    with torch.autocast(u.device.type, enabled=False):
        out: tuple[Tensor, Tensor] = SelectiveScan.apply(u, step, decay, write, read, initial)
    return out


class SelectiveScan(torch.autograd.Function):
    """`selective_scan` step by step, in place, for a tile of rows at a time.

    The states of all steps never exist at the same time. The forward pass keeps one state per `SEGMENT`
    steps, and the backward pass recomputes the states in between. E is the contiguous dimension throughout.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, step: Tensor, decay: Tensor, write: Tensor, read: Tensor, initial: Tensor
    ) -> tuple[Tensor, Tensor]:
        u, step = u.contiguous(), step.contiguous()
        inflow, rate = step * u, decay.t().contiguous()
        y, state = torch.empty_like(u), initial.clone()
        segments = -(-u.shape[1] // SEGMENT) if any(ctx.needs_input_grad) else 0
        checkpoints = state.new_empty(segments, *state.shape)
        for rows in _tiles(state):
            h = state[rows]
            factor = torch.empty_like(h)
            ys = []
            walk = zip(
                _steps(step[rows], 2),
                _steps(inflow[rows], 2),
                _steps(write[rows], 3),
                _steps(read[rows], 2),
                strict=True,
            )
            for t, (step_t, inflow_t, write_t, read_t) in enumerate(walk):
                if segments and t % SEGMENT == 0:
                    checkpoints[t // SEGMENT, rows] = h
                torch.mul(step_t, rate, out=factor).exp_()
                h.mul_(factor).addcmul_(write_t, inflow_t)
                ys.append(torch.bmm(read_t, h))
            torch.cat(ys, 1, out=y[rows])
        ctx.save_for_backward(u, step, decay, write, read, checkpoints)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        # If backward runs under autocast, the products in walk_back would be in bf16.
        with torch.autocast(grad_y.device.type, enabled=False):
            return SelectiveScan.walk_back(grad_y, grad_state, ctx.saved_tensors)

    @staticmethod
    def walk_back(grad_y: Tensor, grad_state: Tensor, saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        u, step, decay, write, read, checkpoints = saved
        inflow, rate = step * u, decay.t().contiguous()
        length = u.shape[1]
        grad_inflow, grad_step = torch.empty_like(u), torch.empty_like(u)
        grad_write, grad_read = torch.empty_like(write), torch.empty_like(read)
        grad_initial, grad_rate = grad_state.clone(), torch.zeros_like(rate)
        for rows in _tiles(grad_initial):
            g = grad_initial[rows]  # gradient of the loss by h, propagated back through time
            h, product, sum_rate = torch.empty_like(g), torch.empty_like(g), torch.zeros_like(g)
            # For the steps of one segment: exp(step A), and exp(step A) times the previous state.
            factors, left = (g.new_empty(SEGMENT, *g.shape).unbind(0) for _ in range(2))
            step_t, inflow_t, grad_t = _steps(step[rows], 2), _steps(inflow[rows], 2), _steps(grad_y[rows], 2)
            write_t, read_t, write_row = _steps(write[rows], 3), _steps(read[rows], 3), _steps(write[rows], 2)
            to_inflow, to_step, to_write, to_read = ([Tensor()] * length for _ in range(4))
            for start in reversed(range(0, length, SEGMENT)):
                segment = range(start, min(start + SEGMENT, length))
                h.copy_(checkpoints[start // SEGMENT, rows])
                for t in segment:
                    factor, rest = factors[t - start], left[t - start]
                    torch.mul(step_t[t], rate, out=factor).exp_()
                    torch.mul(h, factor, out=rest)
                    torch.addcmul(rest, write_t[t], inflow_t[t], out=h)
                    to_read[t] = torch.bmm(grad_t[t], h.mT)
                for t in reversed(segment):
                    g.addcmul_(read_t[t], grad_t[t])
                    to_write[t] = torch.bmm(inflow_t[t], g.mT)
                    to_inflow[t] = torch.bmm(write_row[t], g)
                    torch.mul(g, left[t - start], out=product)  # gradient by the exponent, step A
                    sum_rate.addcmul_(product, step_t[t])
                    to_step[t] = product.mul_(rate).sum(1, keepdim=True)
                    g.mul_(factors[t - start])
            grad_rate += sum_rate.sum(0)
            torch.cat(to_inflow, 1, out=grad_inflow[rows])
            torch.cat(to_step, 1, out=grad_step[rows])
            torch.cat(to_write, 1, out=grad_write[rows])
            torch.cat(to_read, 1, out=grad_read[rows])
        grad_step.addcmul_(grad_inflow, u)
        return grad_inflow.mul_(step), grad_step, grad_rate.t(), grad_write, grad_read, grad_initial


def _tiles(states: Float[Tensor, "B N E"]) -> list[slice]:
    """Split the batch into slices of rows whose states fit into the cache."""
    rows = max(1, TILE_BYTES // (states[0].numel() * states.element_size())) if len(states) else 1
    return [slice(start, start + rows) for start in range(0, len(states), rows)]


def _steps(x: Float[Tensor, "B T C"], dim: int) -> tuple[Tensor, ...]:
    """Return a row (`dim=2`) or column (`dim=3`) vector for each step."""
    return x.unsqueeze(dim).unbind(1)
