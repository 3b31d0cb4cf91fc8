"""`replicas=R`: seeds that train at once leave what single runs leave, whatever happens to one of them."""

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from helpers import choices, forethought, rows

from forethought.cli.compose import Composer
from forethought.cli.launchers.pool import together
from forethought.cli.main import run
from forethought.errors import Impossible
from forethought.results import read_curves, read_results
from forethought.run import build, check_replicas, run_cell, train, train_together
from forethought.run.progress import Progress
from forethought.run.stack import Stack, join, split
from forethought.sweep import Stopped, stopping_signals, sweep_status

TINY = ["experiment=smoke", "model.layers=1", "model.width=16", "max_steps=10", "eval_every=5"]
SEEDS = (0, 1, 2)

# Their losses draw random numbers, or look back by recomputing, which torch.vmap cannot follow.
ALONE = {
    "any_order",
    "belief_state",
    "best_of_k",
    "lookahead_insertion",
    "masked_diffusion",
    "masked_next_token",
    "policy_gradient",
    "register_tokens",
    "scheduled_sampling",
}
TOGETHER = [objective for objective in choices("objective") if objective not in ALONE]


def config(*overrides):
    return Composer([*TINY, *overrides]).cells()[0].config


def cells(folder, *overrides):
    """The three seeds of one config."""
    named = Composer(["-m", "seed=0,1,2", "replicas=3", *TINY, *overrides]).cells()
    for cell in named:
        cell.folder = Path(folder) / f"s{cell.config['seed']}"
    return named


def alone(*overrides):
    """Run one by one."""
    named = cells("alone", *overrides)
    for cell in named:
        run_cell(cell)
    return named


def at_once(*overrides):
    """Trained at once; then each is run, as the launcher does it."""
    named = cells("at_once", *overrides)
    train_together(named, run_cell)
    return named


def checkpoint(cell):
    return torch.load(cell.folder / "checkpoints" / "last.ckpt", weights_only=True)


def log(cell):
    return (cell.folder / "run.log").read_text()


def assert_alike(one, other, key="", **tolerance):
    """Equal, but for the order of the sums behind a number, and for clocks."""
    assert type(one) is type(other), key
    if isinstance(one, dict):
        assert list(one) == list(other), key
        for name in one.keys() - {"seconds", "wall_seconds", "replicas", "overrides"}:
            assert_alike(one[name], other[name], f"{key}.{name}", **tolerance)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), key
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{key}.{index}", **tolerance)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, msg=lambda message: f"{key}: {message}", **tolerance)
    elif isinstance(one, float) and not math.isnan(one):
        assert one == pytest.approx(other, abs=1e-4), key
    elif not isinstance(one, float):
        assert one == other, key


def assert_same_runs(one, other):
    """All that they leave: the words of results.json, the curves, the checkpoints down to Lightning's own."""
    for first, second in zip(one, other, strict=True):
        results = read_results(first.folder)
        assert_alike(read_results(second.folder).model_dump(), results.model_dump())
        curves = read_curves(first.folder / "metrics.csv")
        assert_alike(read_curves(second.folder / "metrics.csv"), curves)
        assert_alike(checkpoint(second), checkpoint(first), atol=1e-5, rtol=1e-3)
        best, last = (second.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
        # A slice that drags the whole stack along would be three times as large.
        assert best.stat().st_size == pytest.approx(last.stat().st_size, rel=0.05)
        assert last.stat().st_size == pytest.approx(
            (first.folder / "checkpoints" / "last.ckpt").stat().st_size, rel=0.05
        )


def training_steps(monkeypatch, spoil):
    """Have `spoil(progress, step)` called at the end of every step of every run."""
    plain = Progress.on_train_batch_end

    def spoiling(self, trainer, *arguments):
        plain(self, trainer, *arguments)
        spoil(self, trainer.global_step)

    monkeypatch.setattr(Progress, "on_train_batch_end", spoiling)


@pytest.mark.parametrize(
    "words",
    [
        *([f"objective={objective}"] for objective in TOGETHER),
        *([f"model={model}"] for model in ("looped_gpt", "infini_gpt", "mamba2")),
        ["model.mask=prefix", "model.positions=rotary"],
        ["task=addition", "task.digits=2", "optimizer.weight_decay=0.5"],
    ],
    ids=" ".join,
)
def test_steps_of_a_stack_are_those_of_its_objectives(words):
    """In float64, to the last digits: losses, weights and the optimiser's state."""
    settings = config(*words)
    single, twins = (
        [build({**settings, "seed": seed}).objective.double() for seed in SEEDS] for _ in range(2)
    )
    stack = Stack(twins)
    optimizers = [objective.make_optimizer(objective, 4)["optimizer"] for objective in single]
    joint = twins[0].make_optimizer(twins[0], 4)["optimizer"]
    stack.optimize(joint)
    for _ in range(4):
        batches = [rows(objective.task, 4 + 3 * seed)[-4:] for seed, objective in enumerate(single)]
        losses = stack(batches)
        losses.sum().backward()
        own = [objective.loss(batch) for objective, batch in zip(single, batches, strict=True)]
        torch.testing.assert_close(losses, torch.stack(own), atol=1e-10, rtol=0)
        torch.stack(own).sum().backward()
        norms = [torch.nn.utils.get_total_norm([p.grad for p in each.parameters()]) for each in single]
        norm = sorted(norms)[1].item()  # one of them is not clipped
        stack.clip_gradients(norm)
        joint.step(), joint.zero_grad()
        for objective, optimizer in zip(single, optimizers, strict=True):
            torch.nn.utils.clip_grad_norm_(objective.parameters(), norm)
            optimizer.step(), optimizer.zero_grad()
    for index, (objective, optimizer) in enumerate(zip(single, optimizers, strict=True)):
        assert_alike(twins[index].state_dict(), objective.state_dict(), atol=1e-10, rtol=0)
        assert_alike(split(joint.state_dict(), index), optimizer.state_dict(), atol=1e-10, rtol=0)
    assert_alike(join([each.state_dict() for each in optimizers]), joint.state_dict(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("objective", ["next_token", "token_order", "teacherless"])
def test_bf16_is_that_of_single_runs(objective):
    """No further from them than they are from fp32; a cross entropy in bf16 is, by 1e-2."""
    settings = config(f"objective={objective}", "model.width=64", "hardware.precision=bf16")
    single, twins = ([build({**settings, "seed": seed}).objective for seed in SEEDS] for _ in range(2))
    batches = [rows(objective.task, 4 + 3 * seed)[-4:] for seed, objective in enumerate(single)]
    exact = torch.stack([objective.loss(batch) for objective, batch in zip(single, batches, strict=True)])
    with torch.autocast("cpu", torch.bfloat16):
        losses = Stack(twins)(batches)
        own = torch.stack([objective.loss(batch) for objective, batch in zip(single, batches, strict=True)])
    assert losses.dtype == torch.float32
    assert not torch.equal(losses, exact), "autocast has done something"
    torch.testing.assert_close(losses, own, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "words",
    [
        ["objective=next_token", "evaluation.temperature=1.0", "task.train_samples=40"],
        ["objective=teacherless", "task.reverse=true"],
        ["objective=token_order", "optimizer.clip_norm=null", "task=addition"],
    ],
    ids=" ".join,
)
def test_they_leave_what_single_runs_leave(workplace, words):
    together = at_once(*words)
    assert all("seeds 0, 1, 2 train at once from step 0" in log(cell) for cell in together)
    assert_same_runs(alone(*words), together)


@pytest.mark.slow
def test_single_runs_go_on_with_replicas_and_the_other_way_round(workplace, monkeypatch):
    """Ctrl-C after step 8, or while step 10 is being saved: the second of three has just got there."""
    words = ["max_steps=15", "log_every=1"]

    def interrupt(progress, step):
        if step == stop and progress.settings.seed == 1:
            raise KeyboardInterrupt

    for stop, reached in ((8, [5] * 3), (10, [10, 10, 5])):
        named = cells(f"from {stop}", *words)
        with monkeypatch.context() as patch:
            training_steps(patch, interrupt)
            with pytest.raises(KeyboardInterrupt):
                train_together(named, run_cell)
        assert [read_results(cell.folder).status for cell in named] == ["interrupted"] * 3
        assert [checkpoint(cell)["global_step"] for cell in named] == reached
    calm = alone(*words)
    train_together(named, run_cell)
    assert "seeds 0, 1 train at once from step 10" in log(named[0])
    assert "seeds" not in log(named[2]).split("at once", 1)[1], "alone from step 5 on"
    assert_same_runs(calm, named)
    for cell in cells("from 8", *words):
        run_cell(cell)
    assert_same_runs(calm, cells("from 8", *words))
    for cell in cells("singly", *words):
        train({**cell.config, "max_steps": 5}, cell.folder)
    train_together(cells("singly", *words), run_cell)
    assert "seeds 0, 1, 2 train at once from step 5" in log(cells("singly", *words)[0])
    assert_same_runs(calm, cells("singly", *words))


def test_a_signal_waits_for_the_end_of_a_step(workplace, monkeypatch):
    """All save at that very step, and the signal then goes to whoever would have had it."""
    words, named = ["max_steps=15"], cells("at_once", "max_steps=15")
    plain, steps, heard = Stack.forward, [], []

    def signalled(stack, batches):
        steps.append(len(steps) + 1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(stack, batches)

    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(len(steps)))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Stack, "forward", signalled)
            with pytest.raises(Stopped):
                train_together(named, run_cell)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps[-1] == 7
    assert heard == [7]
    assert [read_results(cell.folder).reason for cell in named] == ["stopped by SIGTERM"] * 3
    assert [checkpoint(cell)["global_step"] for cell in named] == [7] * 3
    train_together(named, run_cell)
    assert_same_runs(alone(*words), named)


def test_a_signal_while_one_is_tested_stops_the_others(workplace):
    named = cells("at_once")
    for cell in named:
        train({**cell.config, "max_steps": 5}, cell.folder)
    (named[0].folder / "checkpoints" / "last.ckpt").write_bytes(b"damaged: for run_cell to say so")

    def finish(cell):
        os.kill(os.getpid(), signal.SIGTERM)
        run_cell(cell)

    with stopping_signals(), pytest.raises(Stopped):
        train_together(named, finish)
    assert [read_results(cell.folder).status for cell in named] == ["failed", "interrupted", "interrupted"]
    assert [checkpoint(cell)["global_step"] for cell in named[1:]] == [6, 6]


@pytest.mark.slow
def test_the_solved_leave_and_the_others_go_on(workplace):
    words = ["task.path_length=2", "optimizer.lr=3e-3", "optimizer.warmup_steps=10", "solve_threshold=0.5"]
    words += ["max_steps=200", "eval_every=10"]
    steps = [read_results(cell.folder).steps for cell in alone(*words)]
    assert len(set(steps)) == 3
    together, finished = cells("at_once", *words), []
    train_together(together, lambda cell: finished.append(run_cell(cell)))
    assert [results.steps for results in finished] == sorted(steps), "each as soon as it is solved"
    assert [read_results(cell.folder).steps_to_solve for cell in together] == steps
    last = log(together[steps.index(max(steps))])
    assert last.count("train at once") == 2, "the last one has gone on alone"
    assert f"train at once from step {min(steps)}" in last


def test_a_loss_that_is_no_number_costs_one_cell(workplace):
    words = ["max_steps=20", "log_every=5"]
    spoilt = cells("at_once", *words)
    for cell in spoilt:
        train({**cell.config, "max_steps": 10}, cell.folder)
    state = checkpoint(spoilt[1])
    state["state_dict"]["model.norm.weight"].fill_(torch.nan)
    torch.save(state, spoilt[1].folder / "checkpoints" / "last.ckpt")
    train_together(spoilt, run_cell)
    assert [read_results(cell.folder).status for cell in spoilt] == ["finished", "failed", "finished"]
    assert (
        read_results(spoilt[1].folder).reason == "FloatingPointError: the training loss became nan by step 15"
    )
    assert "seeds 0, 1, 2 train at once from step 10" in log(spoilt[0])
    assert "seeds 0, 2 train at once from step 15" in log(spoilt[0]), "gone with the next evaluation"
    calm = alone(*words)
    assert_same_runs(calm[::2], spoilt[::2])


REFUSED = {
    **{f"objective={objective}": "" for objective in ALONE},
    "objective=masked_next_token": "MaskedNextToken with GPT draws random numbers in its loss",
    "objective=belief_state": "BeliefState with GPT cannot be batched over models",
    "model=lstm": "NextToken with LSTM cannot be batched over models",
    "model=mamba": "NextToken with Mamba cannot be batched over models",
    "optimizer=muon": "Muon does not treat every number by itself; expected optimizer=adamw, or",
    "logger=wandb": "their curves go to metrics.csv alone; expected logger=csv, or",
    "hardware.devices=2": "hardware.devices=2 share each run; expected 1, or",
    "hardware.precision=bf16 model=mamba2": "cannot be batched .*; expected hardware.precision=fp32, or",
    "hardware.compile=true": "they are not compiled; expected hardware.compile=false, or",
}


@pytest.mark.parametrize("word", sorted(REFUSED))
def test_what_must_run_alone_is_refused_by_name(word):
    settings = config(*word.split())
    check_replicas(settings)
    with pytest.raises(Impossible, match=f"^replicas=3: .*{REFUSED[word]}.* replicas=1$") as refusal:
        check_replicas({**settings, "replicas": 3})
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replicas=4"], "replicas=4: a single run has one seed; expected replicas=1, or -m 'seed=range(N)'"),
        (["-m", "replicas=4", "hydra/launcher=basic"], "replicas=4: this launcher runs cells one by one;"),
        (["-m", "replicas=0"], "replicas=0: expected greater than 0"),
        (["-m", "replicas=4", "objective=masked_next_token"], "replicas=4: MaskedNextToken with GPT draws"),
    ],
)
def test_replicas_of_nothing_are_one_line(workplace, capsys, words, message):
    assert run(["train", *TINY, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list(workplace.iterdir())


def test_a_cell_is_the_same_whoever_trains_it():
    sweeps = (Composer(["-m", "seed=0,1", *words]).cells() for words in ([], ["replicas=2"]))
    first, second = ([cell.name for cell in sweep] for sweep in sweeps)
    assert first == second


def test_cells_that_differ_in_their_seed_alone_share_a_process():
    words = [["a=1", "seed=0"], ["a=1", "seed=1"], ["a=2", "seed=0"], ["a=1", "seed=2"], ["seed=5", "a=2"]]
    assert together(words, 2) == [[0, 1], [3], [2, 4]]
    assert together(words, 16) == [[0, 1, 3], [2, 4]]
    assert together(words, 1) == [[0], [1], [3], [2], [4]]


@pytest.mark.slow
def test_a_sweep_with_replicas(faulty):
    """A process that is killed or fails takes its cells along; a resume trains them at once from step 10."""
    words = [*faulty, "objective.at=13", "sweep=s", "replicas=2", "seed=0,1"]

    done = forethought("train", "-m", *words, "objective.fault=killed,raises", "max_steps=20")
    assert done.returncode == 1
    assert "0 of 4 cells finished" in done.stdout
    assert "Traceback" in done.stdout, "what is not foreseen is told in full"
    folder = Path("multirun/s")
    for cell in sweep_status(folder):
        assert cell.state == "failed"
        assert ("ValueError: no luck" if "-raises-" in cell.name else "killed by SIGKILL") in cell.detail
        text = (folder / cell.name / "run.log").read_text()
        assert "seeds 0, 1 train at once from step 0" in text
        assert ("Traceback" in text) == ("-raises-" in cell.name)
    again = forethought("resume", str(folder))
    assert "4 of 4 cells finished" in again.stdout, "there were but 10 steps to go"
    for path in folder.glob("*/run.log"):
        assert "seeds 0, 1 train at once from step 10" in path.read_text()
