"""On an accelerator: nothing strays from it, no step waits for it, and it computes what a CPU does."""

from functools import cache

import lightning.pytorch as pl
import pytest
import torch
from helpers import choices, chosen

if torch.cuda.is_available():
    pytest.skip("CUDA's autograd fails beside a second accelerator; test_gpu.py", allow_module_level=True)

from elsewhere import DEVICE, gpu

from forethought.config import Composer
from forethought.evaluation import GREEDY, Decoding, diagnose, grad_flow, show_examples
from forethought.objectives import NextToken
from forethought.results import read_curves
from forethought.tasks import Data, Draws, PathStar
from forethought.training import Session, build, run_cell

TINY = ["experiment=smoke", "model.layers=1", "model.width=16"]
TINY += ["evaluation.validation_samples=8", "evaluation.test_samples=8"]
# LSTMs: cuDNN's kernel. `gpt` is the model of all words that name none.
MODELS = [model for model in choices("model") if model not in ("pretrained", "lstm", "gpt")]
WORDS = [
    *(f"objective={objective}" for objective in choices("objective")),
    "objective=policy_gradient objective.refresh=2",
    *(f"model={model}" for model in MODELS),
    "model.mask=prefix model.positions=rotary",
    "task=addition",
]


@cache
def config(words):
    return Composer([*TINY, *words.split()]).cells()[0].config


@cache
def optimizer_factory(name):
    return build(config(f"optimizer={name}")).objective.make_optimizer


READS = ("answer_hidden", "answer_logits", "decode", "inputs", "next_logits")


def has_own(words, names):
    """Return False if an evaluation runs the code that it runs for `objective=next_token`."""
    name = words.removeprefix("objective=")
    target = chosen("objective", name)[0] if name in choices("objective") else NextToken
    return any(getattr(target, name, None) is not getattr(NextToken, name) for name in names)


ALIKE = [f"objective={name}" for name in choices("objective") if name != "next_token"]
ALIKE = [words for words in ALIKE if not has_own(words, (*READS, "diagnostics"))]

FAST = ("objective=next_token", "objective=masked_diffusion")  # written token by token, and at once


@pytest.fixture
def device(monkeypatch):
    with gpu(monkeypatch) as device:
        yield device


@pytest.mark.parametrize(
    "stray",
    [
        lambda there: there + torch.ones(3),
        lambda there: there[torch.tensor([0])],
        lambda there: torch.cat([there, torch.ones(1)]),
    ],
)
def test_tensors_of_two_devices_do_not_meet(device, stray):
    with pytest.raises(RuntimeError, match="meets cpu"):
        stray(torch.ones(3, device=DEVICE))


@pytest.mark.parametrize(
    "wait",
    [
        lambda there: there.sum().item(),
        lambda there: there.tolist(),
        lambda there: bool((there > 0).all()),
        lambda there: there[there > 0],
        lambda there: there.nonzero(),
        lambda there: there.multinomial(1),
        lambda there: torch.isin(there, there),
        lambda there: there.index_put_([there > 0], there * 2),
        lambda there: there.cpu(),
        lambda there: torch.tensor([1, 2], device=there.device),
        lambda there: there.copy_(torch.zeros(3)),
    ],
)
def test_waits_are_noted(device, wait):
    wait(torch.ones(3, device=DEVICE))
    assert len(device.waits) == 1


@pytest.mark.parametrize(
    "words", [pytest.param(words, marks=[pytest.mark.slow] * (words not in FAST)) for words in WORDS]
)
def test_a_step(device, words):
    """Drawing rows, loss, gradients, clipping and each optimiser: on the device, no wait, equal losses."""
    here, there = build(config(words)).objective, build(config(words)).objective.to(DEVICE)
    data = Data(here.task, 0, 8)
    rows = data.batch(1)
    moved = rows.to(DEVICE)
    torch.manual_seed(0)
    expected = here.loss(rows)
    device.waits.clear()
    assert data.on(DEVICE).batch(1).prompt.device == DEVICE
    torch.manual_seed(0)
    loss = there.loss(moved)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(there.parameters(), 1.0)
    for optimizer in choices("optimizer"):
        made = optimizer_factory(optimizer)(there, 10)
        made["optimizer"].step()
    assert device.waits == []
    torch.testing.assert_close(loss.cpu(), expected)


def test_rows_of_a_test_file_are_excluded_without_a_wait(device, tmp_path):
    plain = PathStar(degree=2, path_length=3, num_nodes=7)
    rows, path = plain.sample(50, Draws(3)), tmp_path / "test.txt"
    path.write_text("".join(plain.text(p, a) + "\n" for p, a in zip(rows.prompt, rows.answer, strict=True)))
    here = Data(PathStar(degree=2, path_length=3, num_nodes=7, test_file=str(path)), 0, 64)
    there = here.on(DEVICE)
    there.batch(0)  # reads the file
    device.waits.clear()
    drawn = there.batch(1)
    assert device.waits == []
    assert drawn.prompt.tolist() == here.batch(1).prompt.tolist()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, marks=[pytest.mark.slow] * (words not in FAST))
        for words in WORDS
        if words not in ALIKE
    ],
)
def test_an_evaluation(device, words):
    here, there = build(config(words)).objective, build(config(words)).objective.to(DEVICE)
    rows = Data(here.task, 0, 8).test(32)
    decodings = [GREEDY]
    # Greedy decoding and teacher forcing call all that a model or a task has for the other decodings.
    if words == "objective=next_token" or has_own(words, READS):
        decodings += [Decoding(decoding="sample")]
        if here.left_to_right:
            decodings += [
                Decoding(decoding="beam", beams=2),
                Decoding(decoding="best_of_k", samples=2, top_k=3, top_p=0.9),
            ]
    for decoding in decodings:
        metrics = []
        for objective, batch in ((here, rows), (there, rows.to(DEVICE))):
            torch.manual_seed(0)
            metrics.append(diagnose(objective, objective.task, batch, decoding))
        assert metrics[1] == pytest.approx(metrics[0], rel=1e-4, nan_ok=True)
    shown = show_examples(there, there.task, rows[:2].to(DEVICE))
    assert shown == show_examples(here, here.task, rows[:2])
    expected = grad_flow(here.eval(), rows)
    if expected is not None:
        torch.testing.assert_close(grad_flow(there.eval(), rows.to(DEVICE)).cpu(), expected)


class CountWaits(pl.Callback):
    """Note the number of waits at the start of each step."""

    def __init__(self, device):
        self.device, self.before = device, {}

    def on_train_batch_start(self, trainer, *_):
        self.before[trainer.global_step + 1] = len(self.device.waits)


@pytest.mark.parametrize("words", [[], ["optimizer=muon"]], ids=str)
@pytest.mark.slow
def test_a_run(device, workplace, words):
    """A run computes what the CPU does, and waits for the device only after the steps that are logged."""
    here, there = (Composer([*TINY, f"hardware={name}", *words]).cells()[0] for name in ("cpu", "gpu"))
    run_cell(here.at(workplace / "here"))
    run, counter = build(there.config), CountWaits(device)
    run.callbacks.append(counter)
    session = Session(run, workplace / "there")
    session.fit()
    assert "elsewhere" in session.test()["device"]
    curves = [read_curves(workplace / name / "metrics.csv") for name in ("there", "here")]
    for mine, expected in zip(*curves, strict=True):
        assert mine == pytest.approx(expected, abs=1e-3, nan_ok=True)
    before = counter.before
    assert [step for step in range(1, 20) if before[step + 1] > before[step]] == [5, 10, 15]
