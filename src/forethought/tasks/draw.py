"""Counter-based random numbers: a row depends on its seed and its index, not on the device or the batch."""

import hashlib
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64, the increment of splitmix64
_ROW = ((_GOLDEN << 32) + 2**63) % 2**64 - 2**63  # the increment of 2^32 words, wrapped to int64


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for one named stream of a run. Streams do not depend on the order of calls."""
    name = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def splitmix64(x: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    """Scramble int64 numbers by the finaliser of splitmix64, a bijection. Products wrap around.

    Source: Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, with the
    constants (Stafford's mix 13) of Vigna's splitmix64.c.
    """
    # In place after the first shift: on a CPU, memory traffic is most of the time for large tensors.
    # `>>` copies the sign of an int64, so each mask clears the copies.
    y = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(-4658895280553007687)
    z = (y >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(y).mul_(-7723592293110705685)
    return (z >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(z)


@lru_cache(maxsize=64)  # a third of the operations of a small draw; the tensors are never written to
def _multiples(factor: int, first: int, count: int, device: torch.device | str) -> Int[Tensor, " N"]:
    return torch.arange(first, first + count, device=device) * factor


class Draws:
    """Random numbers for the rows of one batch, keyed by a seed and the name of a stream.

    In every method the leading dimension is the row. Row r reads the outputs r·2^32, r·2^32 + 1, … of the
    splitmix64 generator whose state is the key; each call reads the next outputs of all its rows. So row
    r is the same on every device and in a batch of any size. All arithmetic is on int64.

    Within one `Draws`, all 64-bit outputs differ, because splitmix64 is a bijection of the counter.
    """

    def __init__(self, seed: int, *stream: str | int, device: torch.device | str = "cpu") -> None:
        self.device = device
        self._key = derive_seed(seed, *stream)
        self._used = 0

    def _words(self, count: int, columns: int) -> Int[Tensor, "B C"]:
        rows = _multiples(_ROW, 0, count, self.device) + self._key
        counters = _multiples(_GOLDEN, self._used + 1, columns, self.device)
        self._used += columns
        return splitmix64(rows[:, None] + counters)

    def integers(self, high: int, *shape: int) -> Int[Tensor, "..."]:
        """Draw from {0, …, high - 1}, high ≤ 2^31. The relative bias of a value is below high / 2^32."""
        count, *rest = shape
        words = self._words(count, torch.Size(rest).numel()).bitwise_and_((1 << 32) - 1)
        # The place of a 32-bit number in `high` equal intervals: 4× faster than a remainder on a CPU.
        return words.mul_(high).bitwise_right_shift_(32).view(shape)

    def below(self, limit: Int[Tensor, "..."], *shape: int) -> Int[Tensor, "..."]:
        """Draw from {0, …, limit - 1}, with a limit for each row. The bias is as of `integers`."""
        return self.integers(1 << 31, *shape) * limit >> 31

    def chosen(self, share: float, *shape: int) -> Bool[Tensor, "..."]:
        """Draw True with a probability, rounded to a multiple of 2^-24."""
        return self.integers(1 << 24, *shape) < round(share * (1 << 24))

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """Draw multiples of 2^-24 from [0, 1), exact in fp32."""
        return self.integers(1 << 24, *shape) * 2.0**-24

    def permutation(self, count: int, size: int, kept: int | None = None) -> Int[Tensor, "B K"]:
        """Draw `count` random orders of {0, …, size - 1} and return the first `kept` places of each.

        An order sorts `size` 64-bit outputs. All outputs differ, so that there are no ties.
        """
        words = self._words(count, size)
        if kept is None or kept == size:
            return words.argsort(1)
        return words.topk(kept, 1, largest=False)[1]  # half the time of a full sort
