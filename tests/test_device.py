"""On an accelerator: nothing strays from it, no step waits for it, and it computes what a CPU does."""

import lightning.pytorch as pl
import pytest
import torch
from elsewhere import DEVICE, gpu
from forethought.run.cuda_graph import CaptureGradients
from helpers import choices

from forethought.config import Composer
from forethought.errors import InputError
from forethought.evaluation import diagnose, grad_flow, show_examples
from forethought.results import read_curves
from forethought.tasks import Data, Draws, PathStar
from forethought.training import build, run_cell, train_together
from forethought.training.callbacks import Progress

TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "hardware.precision=fp32"]
TINY += ["evaluation.validation_samples=8", "evaluation.test_samples=8"]
MODELS = [model for model in choices("model") if model not in ("pretrained", "lstm")]  # LSTMs: cuDNN's kernel

# Their losses do other things at other steps.
CHANGING = ["objective=policy_gradient objective.refresh=2", "objective=scheduled_sampling"]
EVERY = [
    *(f"objective={objective}" for objective in choices("objective")),
    "objective=policy_gradient objective.refresh=2",
    *(f"model={model}" for model in MODELS),
    "model.mask=prefix model.positions=rotary",
    "task=addition",
]

every = pytest.mark.parametrize("words", EVERY)


def config(words):
    return Composer([*TINY, *words.split()]).cells()[0].config


def cell(folder, *words):
    one = Composer([*TINY, *words]).cells()[0]
    one.folder = one.folder.parent / folder
    return one


def curves(one):
    return read_curves(one.folder / "metrics.csv")


def weights(one):
    return torch.load(one.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


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
def test_waits_are_noted_and_forbidden_in_a_graph(device, wait):
    there = torch.ones(3, device=DEVICE)
    wait(there)
    assert len(device.waits) == 1
    refusal = pytest.raises(RuntimeError, match="not permitted when stream is capturing")
    with refusal, torch.cuda.graph(torch.cuda.CUDAGraph()):
        wait(there)


def test_a_graph_replays_kernels_and_not_python(device):
    there, factor, graph = torch.ones(3, device=DEVICE), 2, torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        noise = torch.rand(3, device=DEVICE)
        out = there.view(3, 1)[:, 0] * factor + noise
    assert out.isnan().all(), "not computed yet"
    factor = 3
    there.fill_(10)
    torch.manual_seed(0)
    graph.replay()
    torch.manual_seed(0)
    assert out.tolist() == (20 + torch.rand(3)).tolist()


@every
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
        made = build(config(f"{words} optimizer={optimizer}")).objective.make_optimizer(there, 10)
        made["optimizer"].step()
    assert device.waits == []
    torch.testing.assert_close(loss.cpu(), expected)


def test_rows_of_a_test_file_are_kept_out_without_a_wait(device, tmp_path):
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


@every
def test_an_evaluation(device, words):
    here, there = build(config(words)).objective, build(config(words)).objective.to(DEVICE)
    rows = Data(here.task, 0, 8).test(32)
    for temperature in (0.0, 1.0):
        found = []
        for objective, batch in ((here, rows), (there, rows.to(DEVICE))):
            torch.manual_seed(0)
            found.append(diagnose(objective, batch, temperature))
        assert found[1] == pytest.approx(found[0], rel=1e-4, nan_ok=True)
    assert show_examples(there, rows[:2].to(DEVICE), 0.0) == show_examples(here, rows[:2], 0.0)
    expected = grad_flow(here.eval(), rows)
    if expected is not None:
        torch.testing.assert_close(grad_flow(there.eval(), rows.to(DEVICE)).cpu(), expected)


@pytest.mark.parametrize("words", [[], ["optimizer=muon"]], ids=str)
def test_a_run(device, workplace, monkeypatch, words):
    """Waits for the device after the steps after which something is to be told, and no others."""
    here, there = cell("here", "hardware=cpu", *words), cell("there", "hardware=gpu", *words)
    run_cell(here)
    waits = {}

    def between(progress, trainer, *arguments):
        waits[trainer.global_step + 1] = len(device.waits)
        plain(progress, trainer, *arguments)

    plain = Progress.on_train_batch_start
    monkeypatch.setattr(Progress, "on_train_batch_start", between)
    run_cell(there)
    assert "elsewhere" in (there.folder / "results.json").read_text()
    for one, other in zip(curves(there), curves(here), strict=True):
        assert one == pytest.approx(other, abs=1e-3, nan_ok=True)
    assert [step for step in range(1, 20) if waits[step + 1] > waits[step]] == [5, 10, 15]


@pytest.mark.filterwarnings("ignore:GPU available but not used")
@pytest.mark.parametrize("words", [each for each in EVERY if each not in CHANGING])
def test_a_graph_has_the_loss_and_gradients_of_kernels_launched_one_by_one(device, words):
    """To the last bit, of other rows and weights than it was captured with and whatever noise is drawn."""
    plain, captured = (build(config(words)).objective.to(DEVICE) for _ in range(2))
    data = Data(plain.task, 0, 8).on(DEVICE)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    CaptureGradients(data.batch(0)).on_train_start(trainer, captured)
    for step in range(1, 3):
        torch.manual_seed(step)
        expected = plain.training_step(data.batch(step), step)
        plain.zero_grad()
        expected.backward()
        torch.manual_seed(step)
        assert captured.training_step(data.batch(step), step).tolist() == expected.tolist()
        with torch.no_grad():
            for own, other in zip(captured.parameters(), plain.parameters(), strict=True):
                if own.requires_grad:
                    assert own.grad.tolist() == other.grad.tolist()
                    own -= own.grad
                    other -= other.grad


@pytest.mark.parametrize("words", [[], ["objective=masked_diffusion", "optimizer=muon"]], ids=str)
def test_a_graph_leaves_what_kernels_launched_one_by_one_leave(device, workplace, words):
    plain, graph = (
        cell(use, "hardware=gpu", f"hardware.cuda_graph={use}", *words) for use in ("false", "true")
    )
    run_cell(plain)
    run_cell(graph)
    assert curves(graph) == curves(plain)
    torch.testing.assert_close(weights(graph), weights(plain), rtol=0, atol=0)
    assert "CUDA graph" in (graph.folder / "results.json").read_text()


def test_a_graph_goes_on_from_a_checkpoint(device, workplace):
    whole, parted = cell("whole", "hardware=gpu"), cell("parted", "hardware=gpu", "hardware.cuda_graph=true")
    parted.config["max_steps"] = 10
    run_cell(whole)
    run_cell(parted)
    (parted.folder / "results.json").unlink()
    parted.config["max_steps"] = 20
    run_cell(parted)
    assert curves(parted) == curves(whole)


def test_replicas_in_a_graph(device, workplace):
    def at_once(graph):
        words = ["-m", "seed=0,1", "replicas=2", *TINY, "hardware=gpu", f"hardware.cuda_graph={graph}"]
        cells = Composer(words).cells()
        for one in cells:
            one.folder = one.folder.parent / f"{graph}-{one.config['seed']}"
        train_together(cells, run_cell)
        assert all("train at once" in (one.folder / "run.log").read_text() for one in cells)
        return cells

    for plain, graph in zip(at_once("false"), at_once("true"), strict=True):
        assert curves(graph) == curves(plain)


@pytest.mark.parametrize("words", CHANGING)
def test_a_loss_that_changes_by_the_step_is_no_graph(device, words):
    build(config(f"{words} hardware=gpu"))
    with pytest.raises(
        InputError, match=r"^hardware.cuda_graph=true: .* changes by the step; expected false$"
    ):
        build(config(f"{words} hardware=gpu hardware.cuda_graph=true"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("words", [[], ["hardware.compile=true"], ["objective=masked_diffusion"]], ids=str)
def test_a_graph_on_a_real_gpu(workplace, words):
    """In bf16: to the last bit up to the order of sums."""
    words = ["hardware=gpu", "hardware.precision=bf16", *words]
    plain, graph = (cell(use, *words, f"hardware.cuda_graph={use}") for use in ("false", "true"))
    run_cell(plain)
    run_cell(graph)
    for one, other in zip(curves(graph), curves(plain), strict=True):
        assert one == pytest.approx(other, abs=1e-3, nan_ok=True)
