"""Numbers as digits. The least significant digit comes first."""

import torch
from jaxtyping import Int
from torch import Tensor


def to_digits(numbers: Int[Tensor, "*B"], places: int) -> Int[Tensor, "*B N"]:
    """Return the last N = `places` digits of each number, at most 18."""
    return numbers[..., None] // 10 ** torch.arange(places, device=numbers.device) % 10


def from_digits(digits: Int[Tensor, "*B N"]) -> Int[Tensor, "*B"]:
    """Return the sum of the digits times their powers of ten; a digit may exceed 9."""
    return (digits * 10 ** torch.arange(digits.shape[-1], device=digits.device)).sum(-1)
