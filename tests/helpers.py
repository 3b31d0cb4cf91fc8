"""Shared by tests: small tasks, small models, slow decoding, learning by heart, where a sweep stands."""

import importlib.util
import math
import os
import pkgutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from forethought.config import Composer
from forethought.models import GPT
from forethought.results import read_results
from forethought.sweeps import sweep_status
from forethought.tasks import Addition, Draws, PathStar

CONF = Path(__file__).parents[1] / "conf"

TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "model.heads=2"]

STAR = PathStar(degree=2, path_length=4, num_nodes=8)
LONG_STAR = PathStar(degree=2, path_length=5, num_nodes=10)
SHORT_STAR = PathStar(degree=2, path_length=2, num_nodes=3)  # few enough answers to find one by luck
SUM = Addition(digits=3)  # its answers repeat digits


def forethought(*words):
    """A process of its own, to its end."""
    command = [sys.executable, "-m", "forethought", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def choices(group):
    """Of a group in conf/, found by itself."""
    folder = CONF / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def tasks():
    """All that can be built here: one needs an extra."""
    missing = [] if importlib.util.find_spec("chess") else ["chess_mate"]
    return [task for task in choices("task") if task not in missing]


def chosen(group, choice):
    """Return the class and the options of a YAML file in conf/."""
    options = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    options.pop("label", None)
    return pkgutil.resolve_name(options.pop("_target_")), options


def rows(task=STAR, count=3):
    """The same ones at every call."""
    return task.sample(count, Draws(4))


def lines_of(task, batch):
    """Return the text of each row, after reading it back as the same rows."""
    lines = [task.text(prompt, answer) for prompt, answer in zip(batch.prompt, batch.answer, strict=True)]
    again = task.pad(*zip(*map(task.parse, lines), strict=True))
    assert torch.equal(again.prompt, batch.prompt)
    assert torch.equal(again.answer, batch.answer)
    return lines


def gpt(task=STAR, extra=0, seed=0, **changed):
    """A small model, initialised as for training, with `extra` positions beyond prompt and answer."""
    torch.manual_seed(seed)
    length = task.prompt_length + task.answer_length + extra
    return GPT(len(task.vocabulary), length, **{"layers": 2, "width": 16, "heads": 2, **changed})


def with_random_weights(module, std=0.3):
    """In float64 and with all weights from N(0, std): away from the symmetry of an initialisation."""
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module


def with_large_weights(module, std=0.7):
    """In float64, with large matrices and no biases, so that rows are answered differently."""
    for name, parameter in module.double().named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=std)
        else:
            torch.nn.init.constant_(parameter, float(name.endswith("norm.weight")))
    return module


def random_gpt(task=STAR, std=0.3, **changed):
    return with_random_weights(gpt(task, **changed), std)


def gpt_with_large_weights(task=STAR, std=0.7, **changed):
    return with_large_weights(gpt(task, **changed), std)


def untied(model):
    """With an output layer of its own: with random tied embeddings a token would mostly predict itself."""
    output = torch.randn_like(model.embedding.weight)
    model.logits = lambda hidden: hidden @ output.T
    return model


def slow_norm(x, m):
    """LayerNorm `m` of one vector."""
    return (x - x.mean()) / (x.var(unbiased=False) + m.eps).sqrt() * m.weight + m.bias


def slow_rotary(vector, position):
    """Rotary embedding of one vector, channel by channel."""
    half, out = len(vector) // 2, vector.clone()
    for c in range(half):
        angle = position * 10000 ** (-c / half)
        out[c] = vector[c] * math.cos(angle) - vector[c + half] * math.sin(angle)
        out[c + half] = vector[c + half] * math.cos(angle) + vector[c] * math.sin(angle)
    return out


def negative_log(logits, token):
    """-log softmax(logits)[token]."""
    return (logits.exp().sum().log() - logits[token]).item()


def next_logits(model, prompt, read):
    """Of the token after the lists `prompt` and `read`."""
    return model.logits(model(torch.tensor([prompt + read]), len(prompt)))[0, -1]


@torch.no_grad()
def slow_next_token(model, prompts, reads, answers):
    """Mean of -log p(true token | prompt, what was read before it), one token at a time."""
    total = []
    for prompt, read, answer in zip(prompts.tolist(), reads.tolist(), answers.tolist(), strict=True):
        for i, token in enumerate(answer):
            total.append(negative_log(next_logits(model, prompt, read[:i]), token))
    return sum(total) / len(total)


@torch.no_grad()
def greedy(model, prompt, length, prefix=None):
    """Next-token decoding that reads everything anew for each token."""
    answers = []
    for row, tokens in enumerate(prompt.tolist()):
        answer = [] if prefix is None else prefix[row].tolist()
        while len(answer) < length:
            answer.append(next_logits(model, tokens, answer)[:-1].argmax().item())  # `$` is never written
        answers.append(answer)
    return torch.tensor(answers)


def carries_loss(objective, batch):
    """(B, T): the positions at which the loss hangs on what the model gives out.

    The model gives nothing out for the first ones, where the objective asks for the `last` alone.
    """
    lengths, states = [], []
    hooks = [
        objective.model.register_forward_pre_hook(lambda model, inputs: lengths.append(inputs[0].shape[1])),
        objective.model.norm.register_forward_hook(
            lambda norm, inputs, output: states.append(output) or output.retain_grad()
        ),
    ]
    objective.loss(batch).backward()
    for hook in hooks:
        hook.remove()
    (length,), (hidden,) = lengths, states
    return F.pad(hidden.grad.abs().amax(2) > 0, (length - hidden.shape[1], 0))


def logits_seen(objective, batch):
    """Return the output layer's logits in one loss, call by call."""
    seen, plain = [], objective.model.logits
    objective.model.logits = lambda hidden: (seen.append(plain(hidden)), seen[-1])[1]
    objective.loss(batch)
    objective.model.logits = plain
    return seen


def by_heart(objective, batch):
    """Return True if decoding gives every answer of the batch."""
    return torch.equal(objective.generate(batch.prompt, batch.answer.shape[1]), batch.answer)


def learns(objective, batch, steps, lr=3e-3, learned=by_heart, every=10):
    """Train on one batch; return True once it is `learned`, False if that takes more than `steps`."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=lr, fused=True)
    for step in range(1, steps + 1):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0 and learned(objective, batch):
            return True
    return False


def states_once_settled(sweep):
    """Of its cells; those of a sweep that was killed end a moment after it."""
    deadline = time.monotonic() + 10
    while True:
        states = [cell.state for cell in sweep_status(sweep)]
        if "running" not in states or time.monotonic() > deadline:
            return states
        time.sleep(0.05)


def heeds_ctrl_c():
    """For `preexec_fn`: tests started in the background, and all that they start, would ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def tiny(folder, *words):
    """Compose a run of seconds in a folder."""
    return Composer([*TINY, *words], folder=Path(folder)).cells()[0]


def fault(at, how="crash"):
    """Command-line word for something that happens in batch `at`."""
    return f"callbacks={{fault:{{_target_:faulty.Fault,at:{at},how:{how}}}}}"


def started(*words):
    """Start a process and a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "forethought", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heeds_ctrl_c,
    )


def at_work(process, count=1):
    """Ids of the processes that run faulty.py's slow objective, once there are so many."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        ids = [int(path.name.rpartition("-")[2]) for path in Path().glob("at-work-*")]
        if len(ids) == count:
            return ids
        time.sleep(0.05)
    with suppress(ProcessLookupError):  # else its output never ends
        os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(process.communicate())


def last_checkpoint(folder):
    return torch.load(Path(folder, "checkpoints", "last.ckpt"), weights_only=True)


def outcome(folder):
    """Return everything of a run that its config determines, to the bit: weights, curves and metrics."""
    results, folder = read_results(Path(folder)), Path(folder)
    assert results.status == "finished", results.reason
    weights = [tensor.tolist() for tensor in last_checkpoint(folder)["state_dict"].values()]
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    numbers = results.metrics, results.steps, results.steps_to_solve, results.samples_seen
    return *numbers, best, weights, (folder / "metrics.csv").read_text()


def left_over(group, seconds=10):
    """Return the processes of a process group that have not ended after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
                found += [stat.parent.name] * (int(of_group) == group and state != "Z")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
