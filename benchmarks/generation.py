"""Decoding with the key/value cache against decoding that reads all tokens again for each token."""

from __future__ import annotations

import statistics

import torch
from measuring import Section, ratios, table, take_turns
from plain import new_model
from torch import Tensor

from forethought.objectives import NextToken
from forethought.tasks import Draws, PathStar

ROWS, ASKED = 500, 20_000


@torch.inference_mode()
def without_cache(objective: NextToken, prompt: Tensor, length: int) -> Tensor:
    tokens = prompt
    for _ in range(length):
        following = objective.model.logits(objective.model(tokens)[:, -1:]).argmax(2)
        tokens = torch.cat([tokens, following], 1)
    return tokens[:, prompt.shape[1] :]


@torch.inference_mode()
def with_cache(objective: NextToken, prompt: Tensor, length: int) -> Tensor:
    return objective.generate(prompt, length)


def measure(tiny: bool = False) -> Section:
    task = PathStar(degree=5, path_length=5, num_nodes=50)
    objective = NextToken(new_model(task, *((1, 16, 2) if tiny else (6, 384, 6))), task).eval()
    rounds = 1 if tiny else 5
    prompt = task.sample(ROWS, Draws(0)).prompt
    length = task.answer_length
    ways = {"without": without_cache, "with": with_cache}
    answers = [way(objective, prompt, length) for way in ways.values()]
    assert torch.equal(*answers)
    seconds = take_turns(
        {name: lambda way=way: way(objective, prompt, length) for name, way in ways.items()}, rounds
    )
    share = 1 / ratios(seconds["without"], seconds["with"])[0]
    scaled = {name: ASKED / ROWS * statistics.median(found) for name, found in seconds.items()}
    rows = [[f"{name} cache", f"{found:,.0f}"] for name, found in scaled.items()]
    return Section(
        "Generation with a key/value cache",
        f"Answers to G(5,5), 50 names, GPT of 6 × 384, fp32, {torch.get_num_threads()} thread(s); {ROWS} "
        f"rows at a time, {rounds} rounds in turns, scaled to {ASKED:,} answers, which are equal. With the "
        f"cache it takes **{share:.2f}** of the time.",
        table(["decoding", f"seconds for {ASKED:,} answers"], rows),
    )
