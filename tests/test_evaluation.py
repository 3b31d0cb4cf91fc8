"""The diagnostics on answerers whose failures are known."""

import re

import pytest
import torch
from helpers import gpt
from torch import nn

from forethought.evaluation import diagnose, show_examples, verdict
from forethought.objectives import Objective
from forethought.tasks import Addition, Draws, PathStar

TASK = PathStar(degree=3, path_length=4, num_nodes=12)


class Answerer(Objective):
    """Answers by a rule: `plan` finds the goal, `cheat` follows whatever arm its prefix is on."""

    def __init__(self, task, rule, teacher_forced=True):
        super().__init__(gpt(task, layers=1), task)
        self.rule, self.teacher_forced = rule, teacher_forced

    def loss(self, batch):
        raise NotImplementedError

    def answer_logits(self, batch):
        tokens = torch.stack(
            [self._rule(batch.prompt, batch.answer[:, :i])[:, i] for i in range(batch.answer.shape[1])], 1
        )
        return 2 * nn.functional.one_hot(tokens, len(self.task.vocabulary)).float()

    def decode(self, prompt, length, prefix=None, temperature=0.0):
        return self._rule(prompt, prompt[:, :0] if prefix is None else prefix)

    def _rule(self, prompt, prefix):
        """The whole answer from a prefix: the first arm that starts like it, by default the first listed.

        The rule `ends` reads no answer token: it copies start and goal, and takes the first arm between.
        """
        _, _, start, goal = self.task._graph(prompt)
        arms = self.task._arms(prompt)
        choice = torch.zeros(len(prompt), dtype=torch.long)
        if self.rule == "plan":
            choice = (arms[:, :, -1] == goal).int().argmax(1)
        if prefix.shape[1] > 1 and self.rule == "cheat":
            choice = (arms[:, :, 0] == prefix[:, 1:2]).int().argmax(1)
        arm = arms[torch.arange(len(prompt)), choice]
        if self.rule == "ends":
            arm = torch.cat([arm[:, :-1], goal], 1)
        return torch.cat([start, arm], 1)


def rows(count=3000, task=TASK):
    return task.sample(count, Draws(0))


def test_a_planner_is_solved():
    metrics = diagnose(Answerer(TASK, "plan"), TASK, rows(), chunk=700)
    assert metrics["accuracy"] == metrics["decision_accuracy"] == metrics["forced_accuracy"] == 1
    assert metrics["decision_margin"] == 2
    assert metrics["given_decision_accuracy"] == 1
    assert metrics["follows_wrong_decision"] == 0
    assert verdict(metrics, 0.95) == "solved"


def test_a_cheater_is_a_shortcut():
    metrics = diagnose(Answerer(TASK, "cheat"), TASK, rows())
    assert metrics["accuracy"] == pytest.approx(1 / 3, abs=0.03)
    assert metrics["error_wrong_arm"] == pytest.approx(2 / 3, abs=0.03)
    assert metrics["decision_accuracy"] == metrics["token_accuracy_2"] == metrics["accuracy"]
    assert metrics["forced_local_accuracy"] == metrics["forced_token_accuracy_3"] == 1
    assert metrics["given_decision_accuracy"] == metrics["follows_wrong_decision"] == 1
    assert metrics["chance"] == metrics["decision_chance"] == 1 / 3
    assert metrics["blind_local_accuracy"] < 0.9
    assert verdict(metrics, 0.95) == "shortcut"


def test_who_reads_no_answer_token_takes_no_shortcut():
    """On three nodes an arm, the prompt gives all tokens away but the decision."""
    task = PathStar(degree=2, path_length=3)
    metrics = diagnose(Answerer(task, "ends"), task, rows(task=task))
    assert metrics["accuracy"] == metrics["decision_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert metrics["forced_local_accuracy"] == metrics["blind_local_accuracy"] == 1
    assert verdict(metrics, 0.95, task.needs_plan) == "guessing"


def test_at_chance_where_every_token_decides_is_guessing():
    metrics = {"accuracy": 0.34, "decision_accuracy": 0.34, "chance": 1 / 3, "decision_chance": 1 / 3}
    assert verdict({**metrics, "forced_accuracy": 0.34}, 0.95) == "guessing"
    assert verdict(metrics, 0.95) == "partial"


def test_without_a_teacher_there_are_no_teacher_forced_metrics():
    metrics = diagnose(Answerer(TASK, "plan", teacher_forced=False), TASK, rows(50))
    assert not [name for name in metrics if re.search("forced|given|follows|written", name)]
    assert verdict({**metrics, "accuracy": 0.34, "decision_accuracy": 0.34}, 0.95) == "partial"


def test_evaluation_leaves_the_mode_of_training():
    answerer = Answerer(TASK, "plan").train()
    diagnose(answerer, TASK, rows(5))
    assert answerer.training


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "shortcut"),
        ({"blind_local_accuracy": 0.9}, "guessing"),
        ({"accuracy": 0.95}, "solved"),
        ({"accuracy": 0.949}, "shortcut"),
        ({"forced_local_accuracy": 0.98}, "partial"),
        ({"forced_local_accuracy": 0.98, "accuracy": 0.4}, "undertrained"),
        ({"decision_accuracy": 0.56}, "partial"),
        ({"decision_accuracy": 0.54}, "shortcut"),
        ({"decision_accuracy": 0.44}, "partial"),
        ({"decision_accuracy": 0.9, "accuracy": 0.9, "decision_chance": 1.0, "chance": 1.0}, "partial"),
        ({"accuracy": 0.0, "forced_local_accuracy": 0.5, "decision_accuracy": 0.1}, "undertrained"),
    ],
)
def test_verdicts(changed, expected):
    plateau = {
        "accuracy": 0.5,
        "decision_accuracy": 0.5,
        "forced_local_accuracy": 0.995,
        "blind_local_accuracy": 0.6,
        "chance": 0.5,
        "decision_chance": 0.5,
    }
    assert verdict({**plateau, **changed}, 0.95) == expected
    reversed_answer = verdict({**plateau, **changed}, 0.95, needs_plan=False)
    assert reversed_answer == expected.replace("shortcut", "guessing")


def test_examples_say_what_the_model_wrote():
    task = PathStar(degree=2, path_length=3, num_nodes=6)
    batch = task.sample(4, Draws(0))
    for example, row in zip(show_examples(Answerer(task, "cheat"), task, batch), range(4), strict=True):
        assert example.text == task.text(batch.prompt[row], batch.answer[row])
        assert (example.outcome == "right") == (example.answer == example.truth)
        assert example.outcome in ("right", "wrong_arm")
        assert len(example.drawing["edges"]) == 4


def test_strata_of_addition():
    class Adder(Answerer):
        def _rule(self, prompt, prefix):
            """Right, except that every carry is forgotten."""
            return torch.cat([torch.zeros_like(prompt[:, :1]), self.task._pairs(prompt) % 10], 1)

    task = Addition(digits=3)
    metrics = diagnose(Adder(task, "add"), task, task.sample(4000, Draws(0)))
    assert metrics["accuracy_carry_0"] == 1
    assert metrics["accuracy_carry_1"] == metrics["accuracy_carry_2"] == 0
    assert metrics["error_carry"] == pytest.approx(1 - metrics["accuracy"])
