"""Answers sampled from the model, for objectives that learn from them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical

from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch, Task


@torch.no_grad()
def sample_answers(
    objective: NextToken, task: Task, prompt: Int[Tensor, "B P"], samples: int, temperature: float
) -> Batch:
    """Return K = `samples` answers to each prompt: a batch of B·K rows, grouped by prompt."""
    prompts = prompt.repeat_interleave(samples, 0)
    # Decoding has too many shapes to be worth compiling, even if training is compiled.
    with torch.compiler.set_stance("force_eager"):
        answers = objective.generate(prompts, task.answer_length, temperature=temperature)
    return Batch(prompts, answers)


def log_likelihood(objective: NextToken, batch: Batch, temperature: float = 1.0) -> Float[Tensor, "B A"]:
    """Return log p(y_i | x, y_<i), in nats, of each answer token under the softened distribution.

    It is the distribution that is sampled from, without `$`.
    """
    logits = objective.answer_logits(batch)[..., : objective.task.dummy] / temperature
    return -objective.cross_entropy(logits, batch.answer, "none")


@torch.no_grad()
def sampled_metrics(
    objective: NextToken, task: Task, prompt: Int[Tensor, "B P"], samples: int, temperature: float
) -> dict[str, Float[Tensor, " B"]]:
    """Return metrics of `samples` answers to each prompt, from the same random numbers at every call.

    * `sampled_reward`: share of answers that the task accepts.
    * `pass_at_k`: 1 if any of the `samples` answers is accepted, else 0.
    * `answer_entropy`: entropy of the next token in nats, averaged along the sampled answers.
    * `distinct_answers`: share of answers that equal no earlier one of the same prompt; 1/samples if all
      answers are equal.
    """
    rights, entropies, answers = [], [], []
    with torch.random.fork_rng([prompt.device] if prompt.is_cuda else []):
        torch.manual_seed(0)
        # One answer a prompt at a time: `samples` copies of a whole test set would not fit into memory.
        for _ in range(samples):
            drawn = sample_answers(objective, task, prompt, 1, temperature)
            rights.append(task.check(drawn.prompt, drawn.answer) == 0)
            logits = objective.answer_logits(drawn)[..., : task.dummy] / temperature
            entropy = Categorical(logits=logits, validate_args=False).entropy()
            written = drawn.answer != task.dummy
            entropies.append((entropy * written).sum(1) / written.sum(1))
            answers.append(drawn.answer)
    drawn_answers = torch.stack(answers, 1)
    equal = (drawn_answers[:, :, None] == drawn_answers[:, None]).all(3)  # (B, K, K)
    right = torch.stack(rights, 1).float()
    return {
        "sampled_reward": right.mean(1),
        "pass_at_k": right.amax(1),
        "answer_entropy": torch.stack(entropies, 1).mean(1),
        "distinct_answers": 1 - equal.tril(-1).any(2).float().mean(1),
    }
