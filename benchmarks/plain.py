"""The training loop that everyone writes first, as the baseline."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from forethought.models import GPT
from forethought.tasks import Draws, PathStar

ROWS = 20_000


def new_model(task: PathStar, layers: int, width: int, heads: int) -> GPT:
    torch.manual_seed(0)
    return GPT(
        vocabulary_size=len(task.vocabulary),
        context_length=task.prompt_length + task.answer_length,
        layers=layers,
        width=width,
        heads=heads,
    )


class PlainLoop:
    """Rows made and tokenised beforehand, a `DataLoader`, logits everywhere, AdamW as it comes, eager.

    Args:
        autocast: arithmetic of the matrix products: None is fp32, float16 has its gradients scaled.
    """

    def __init__(
        self, task: PathStar, model: GPT, batch_size: int, autocast: torch.dtype | None = None
    ) -> None:
        rows = task.sample(ROWS, Draws(0))
        data = TensorDataset(torch.cat([rows.prompt, rows.answer], 1))
        self.loader = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)
        self.batches = iter(self.loader)
        self.task, self.autocast = task, autocast
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.scaler = torch.amp.GradScaler(self.device, enabled=autocast is torch.float16)

    def step(self) -> None:
        try:
            (rows,) = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            (rows,) = next(self.batches)
        rows = rows.to(self.device)
        read, target = rows[:, :-1], rows[:, 1:].clone()
        target[:, : self.task.prompt_length - 1] = -100
        with torch.autocast(self.device, self.autocast, enabled=self.autocast is not None):
            logits = self.model.logits(self.model(read))
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        loss.item()  # printed, in such loops

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()
