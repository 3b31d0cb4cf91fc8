"""Creativity of a set of answers, by plain sets; the run that goes by it."""

from types import SimpleNamespace

import pytest
import torch
from helpers import gpt, tiny

from forethought.evaluation import Decoding, diagnose, verdict
from forethought.evaluation.diagnose import Diagnosis
from forethought.objectives import NextToken
from forethought.results import read_results
from forethought.tasks import Data, Draws, PathStar, SiblingDiscovery
from forethought.training import evaluate_run, run_cell
from forethought.training.checkpoint import read_checkpoint

TASK = SiblingDiscovery(parents=3, children=6, train_samples=12)
ROWS = TASK.sample(60, Draws(7))


def written():
    """Answers to ROWS: right ones that often repeat, in both orders, and 20 wrong ones."""
    answers = ROWS.answer.clone()
    answers[30:40] = answers[:10, [1, 0, 2]]
    answers[40:] = answers[40:, [0, 0, 2]]
    return answers


def objects(answers):
    return [(frozenset(pair), parent) for *pair, parent in answers.tolist()]


def expected(data):
    right, known = objects(written()[:40]), {*objects(data.training_set.answer)}
    fresh = {*objects(TASK.sample(60, Draws(0, "creativity")).answer)} - known
    new = len({*right} - known) / 60
    return {
        "diversity": len({*right}) / 60,
        "creativity": new,
        "memorised": sum(thing in known for thing in right) / 60,
        "true_creativity": len(fresh) / 60,
        "relative_creativity": new * 60 / len(fresh),
    }


class Writer(Decoding):
    """Decoding that writes the answers of `written`."""

    def generate(self, objective, prompt, length, prefix=None):
        place = (prompt[:, None] == ROWS.prompt).all(2).int().argmax(1)
        return written()[place]


@pytest.mark.parametrize("chunk", [7, 60])
def test_creativity_is_that_of_the_whole_set(chunk):
    data = Data(TASK, 0, 8)
    assert 0 < expected(data)["creativity"] < expected(data)["diversity"] < 0.5
    objective = NextToken(gpt(TASK), TASK)
    metrics = diagnose(objective, TASK, ROWS, Writer(), chunk, clever_hans=False, data=data)
    assert metrics.items() >= expected(data).items()
    unknown = diagnose(objective, TASK, ROWS, Writer(), chunk, clever_hans=False)
    assert metrics.keys() - unknown.keys() == expected(data).keys() - {"diversity"}


@torch.no_grad()
def test_processes_count_an_object_of_both_once():
    """The second of two processes answers fewer rows; each joins what both pass to `gather`, in order."""
    data, objective = Data(TASK, 0, 8), NextToken(gpt(TASK), TASK).eval()
    passed, parts = ([], []), []
    for rows in (ROWS[:35], ROWS[35:]):
        parts.append(Diagnosis(objective, TASK, Writer(), clever_hans=False, data=data))
        parts[-1].update(rows)
    for part, values in zip(parts, passed, strict=True):
        part.compute(lambda vector, values=values: (values.append(vector), vector)[1])
    joined = map(torch.cat, zip(*passed, strict=True))
    assert parts[0].compute(lambda _: next(joined)).items() >= expected(data).items()

    # Lightning gathers tensors of equal lengths alone.
    others = iter([torch.tensor([3]), torch.tensor([7, 8, 9])])
    strategy = SimpleNamespace(all_gather=lambda own: torch.stack([own, next(others)]))
    rank = SimpleNamespace(trainer=SimpleNamespace(strategy=strategy))
    assert NextToken._gather(rank, torch.tensor([5])).tolist() == [5, 7, 8, 9]


def test_other_tasks_have_no_creativity():
    task = PathStar(degree=2, path_length=4, train_samples=20)
    objective = NextToken(gpt(task), task)
    metrics = diagnose(objective, task, task.sample(5, Draws(0)), data=Data(task, 0, 8))
    assert not {"diversity", "creativity"} & metrics.keys()


def test_the_verdict_goes_by_the_goal():
    metrics = {"accuracy": 1.0, "relative_creativity": 0.3, "chance": 0.2, "decision_chance": 0.2}
    assert verdict(metrics, 0.95) == "solved"
    assert verdict(metrics, 0.95, goal="relative_creativity") == "partial"
    assert verdict(metrics, 0.3, goal="relative_creativity") == "solved"


def test_a_run_goes_by_its_creativity(tmp_path):
    words = ["task=sibling_discovery", "task.parents=2", "task.children=9", "task.train_samples=30"]
    shorter = ["solve_threshold=0.01", "stop_when_solved=false", "max_steps=80", "evaluation.decoding=sample"]
    shorter += ["optimizer.lr=0.01", "batch_size=30", "eval_every=40"]
    cell = tiny(tmp_path, *words, *shorter)
    results = run_cell(cell.at(tmp_path))
    assert results.status == "finished", results.reason
    reached = results.metrics["test/relative_creativity"]
    assert 0.01 < reached != results.metrics["test/accuracy"]
    assert (results.verdict, results.steps_to_solve is None) == ("solved", False)
    saved = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["callbacks"]
    assert any("'monitor': 'val/relative_creativity'" in name for name in saved)

    # New answers stay new beside the training set of the run, whatever the seed of the test.
    config = read_results(tmp_path).config
    assert evaluate_run(tmp_path, config, [])["metrics"] == results.metrics
    other = evaluate_run(tmp_path, config | {"seed": 5}, [])["metrics"]
    assert other["test/true_creativity"] == results.metrics["test/true_creativity"]
    assert other != results.metrics
