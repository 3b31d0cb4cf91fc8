"""Mamba-2: state space duality, a selective state space model computed by matrix products in chunks."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn

from forethought.errors import Impossible
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

SSD_KERNEL = Kernel(
    "mamba_ssm.ops.triton.ssd_combined:mamba_chunk_scan_combined",
    lambda scan, u, step, decay, write, read, chunk: scan(
        u, step, decay, write[:, :, None], read[:, :, None], chunk
    ),
    least_length=100,
)


class Mamba2(StateSpaceModel):
    """Mamba-2: like Mamba, but all channels of a head share one decay, so that matrix products apply.

    State dicts move to and from mamba-ssm's `Mamba2` with one group (see `StateSpaceModel`).

    Source: Dao & Gu, "Transformers are SSMs" (2405.21060), §6 for the scan and §7.1 for the block.

    Args:
        head_width: P, channels of a head; a divisor of E.
        chunk: steps computed as one matrix; does not change the result.
        backend: as for `Mamba`, but `auto` takes the kernel for rows of at least 100 tokens alone, on which
            it is faster. It computes its products in TF32.
        others: as for `Mamba`.

    Raises:
        Impossible: E is not a multiple of `head_width`.
    """

    @validated
    def __init__(
        self,
        vocabulary_size: PositiveInt,
        context_length: PositiveInt,
        layers: Layers = 3,
        width: PositiveInt = 64,
        state_size: PositiveInt = 32,
        expand: PositiveInt = 2,
        head_width: PositiveInt = 32,
        conv_width: PositiveInt = 4,
        chunk: PositiveInt = 32,
        backend: Backend = "auto",
        mask: Literal["causal", "prefix", "full"] = "causal",
        conv: Conv = "none",
    ) -> None:
        if expand * width % head_width:
            raise Impossible(
                f"model.head_width={head_width}: not supported with model.expand={expand} and "
                f"model.width={width}; use a divisor of {expand * width}"
            )
        require_backend(backend, SSD_KERNEL)
        new_mixer = partial(Mamba2Mixer, width, state_size, expand, head_width, conv_width, chunk, backend)
        super().__init__(vocabulary_size, layers, width, new_mixer, mask, conv)


class Mamba2Mixer(nn.Module):
    """Convolution, scan in H = E / P heads, and a gated norm."""

    def __init__(
        self,
        width: int,
        state_size: int,
        expand: int,
        head_width: int,
        conv_width: int,
        chunk: int,
        backend: Backend,
    ) -> None:
        super().__init__()
        self.inner, self.state_size, self.chunk, self.backend = expand * width, state_size, chunk, backend
        heads, mixed = self.inner // head_width, self.inner + 2 * state_size
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.in_proj = nn.Linear(width, self.inner + mixed + heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, conv_width, groups=mixed, padding=conv_width - 1)
        self.norm = nn.RMSNorm(self.inner, eps=1e-5)
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def reset_parameters(self) -> None:
        """Draw A uniformly from [-16, -1], and small initial steps, as in mamba-ssm."""
        with torch.no_grad():
            nn.init.uniform_(self.A_log, 1, 16).log_()
        nn.init.ones_(self.D)
        reset_step_bias(self.dt_bias)

    def init_cache(self, batch_size: int) -> MixerCache:
        heads = len(self.D)
        return MixerCache(
            self.D.new_zeros(batch_size, self.conv1d.kernel_size[0] - 1, self.conv1d.in_channels),
            self.D.new_zeros(batch_size, heads, self.state_size, self.inner // heads),
        )

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        cache: MixerCache | None = None,
        padding: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        gate, mixed, step = self.in_proj(x).split([self.inner, self.conv1d.in_channels, len(self.D)], 2)
        mixed, window = causal_conv(self.conv1d, skip(mixed, padding), cache.window if cache else None)
        mixed = full_precision(F.silu(mixed))
        u, write, read = mixed.split([self.inner, self.state_size, self.state_size], 2)
        u = u.unflatten(2, (len(self.D), -1))
        step = skip(F.softplus(full_precision(step) + self.dt_bias), padding)  # zero: the state stays
        inputs = (u, step, -full_precision(self.A_log).exp(), write, read)
        y: Tensor | None
        if cache:
            y, cache.ssm = ssd(*inputs, self.chunk, cache.ssm)
            cache.window = window
        elif (y := run_kernel(SSD_KERNEL, self.backend, inputs, self.chunk)) is None:
            y, _ = ssd(*inputs, self.chunk)
        y = (y + self.D[:, None] * u).flatten(2)
        return self.out_proj(self.norm(y * F.silu(gate)))


def ssd(
    u: Float[Tensor, "B T H P"],
    step: Float[Tensor, "B T H"],
    decay: Float[Tensor, " H"],
    write: Float[Tensor, "B T N"],
    read: Float[Tensor, "B T N"],
    chunk: int,
    state: Float[Tensor, "B H N P"] | None = None,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H N P"]]:
    """Compute h_t = exp(step_t A) h_{t-1} + step_t write_t u_tᵀ and y_t = read_t · h_t in every head.

    Within a chunk, y is a masked attention of read over write. Between chunks, only h is passed on
    (2405.21060, §6; there Δ is `step`, A `decay`, B `write`, C `read`).

    Returns:
        y, and h after the last step.
    """
    with torch.autocast(u.device.type, enabled=False):
        inflow, exponent = (u * step[..., None]).transpose(1, 2), (step * decay).transpose(1, 2)
        pieces = zip(
            inflow.split(chunk, 2),
            exponent.split(chunk, 2),
            write[:, None].split(chunk, 2),
            read[:, None].split(chunk, 2),
            strict=True,
        )
        ys = []
        for x, e, b, c in pieces:
            since = e.cumsum(2)  # log of the decay from the start of the chunk to t
            between = since[..., :, None] - since[..., None, :]
            future = torch.ones(between.shape[2:], dtype=torch.bool, device=u.device).triu(1)
            y = (c @ b.mT * between.masked_fill(future, -torch.inf).exp()) @ x
            until_end = (since[..., -1:] - since).exp()
            new = b.mT @ (until_end[..., None] * x)
            if state is not None:
                y = y + since.exp()[..., None] * (c @ state)
                new = new + since[..., -1, None, None].exp() * state
            state = new
            ys.append(y)
        assert state is not None
        return torch.cat(ys, 2).transpose(1, 2), state
