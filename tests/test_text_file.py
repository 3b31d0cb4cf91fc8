"""Windows of a text against plain strings, and a real tokenizer and model against transformers."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import gpt, lines_of

from forethought import load
from forethought.cli.main import run
from forethought.errors import InputError
from forethought.evaluation import diagnose
from forethought.models import Pretrained
from forethought.objectives import NextToken
from forethought.results import read_results
from forethought.tasks import Batch, Data, Draws, TextFile, evaluation_rows
from forethought.tasks.base import TEST, TRAIN, VALIDATION
from forethought.tasks.text import OWN_TEXT

PARTS = {3: VALIDATION, 7: TEST, 11: VALIDATION, 15: TEST}
ONCE = "Once upon a time, there was a"


@pytest.fixture
def task(tmp_path):
    """Build a task on a text."""

    def build(text, prompt_tokens=2, answer_tokens=2, **options):
        path = tmp_path / "text.txt"
        path.write_text(text, encoding="utf-8")
        return TextFile(
            text_file=str(path), prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, **options
        )

    return build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny GPT-2 whose tokenizer is a byte-level BPE, learned from the project's own text."""
    transformers = pytest.importorskip("transformers", reason="needs the extra [pretrained]")
    import tokenizers

    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([OWN_TEXT.read_text()], trainer)
    path = tmp_path_factory.mktemp("pretrained")
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "n_positions": 128, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return str(path)


def strings(task, batch):
    rows = torch.cat([batch.prompt, batch.answer], 1).tolist()
    return ["".join(task.vocabulary[token] for token in row) for row in rows]


def slow_windows(text, length):
    """Return each window in blocks of one part, at every place, with this part."""
    windows = []
    for first in range(len(text) - length + 1):
        parts = {PARTS.get(place * 16 // len(text), TRAIN) for place in range(first, first + length)}
        if len(parts) == 1:
            windows.append((text[first : first + length], *parts))
    return windows


def random_text(count, characters="ab\ncd"):
    return "".join(characters[i] for i in torch.randint(len(characters), (count,)).tolist())


@pytest.mark.parametrize("length", [64, 201, 255])
def test_windows_parts_and_chance_against_strings(task, length):
    torch.manual_seed(length)
    text = random_text(length)
    ours, count = task(text), 20_000
    windows = slow_windows(text, 4)
    batch = ours.sample(count, Draws(0))
    drawn = Counter(strings(ours, batch))
    expected = Counter(window for window, _ in windows)
    assert drawn.keys() == expected.keys()
    for window, number in expected.items():
        mean = count * number / len(windows)
        assert abs(drawn[window] - mean) < 6 * mean**0.5
    # Of equal windows in several parts, all are held out.
    first_part = {window: min(part for same, part in windows if same == window) for window in expected}
    assert ours.part(batch).tolist() == [first_part[window] for window in strings(ours, batch)]
    most = Counter(window[2:] for window, _ in windows).most_common(1)[0][1]
    assert ours.chance == most / len(windows)
    assert strings(ours, ours.sample(7, Draws(0))) == strings(ours, batch)[:7]


def test_no_character_is_in_two_parts_and_another_window_moves_none(task):
    """In a text of different characters, a character is a place."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    seen = {}
    for sizes in ((2, 2), (5, 9)):
        data = Data(task(text, *sizes), seed=1, batch_size=2000)
        for part, rows in (
            (TRAIN, data.batch(0)),
            (VALIDATION, data.validation(500)),
            (TEST, data.test(500)),
        ):
            characters = {*"".join(strings(data.task, rows))}
            seen.setdefault(part, set()).update(characters)
            assert len(characters) > 55
    assert sum(map(len, seen.values())) == len(set.union(*seen.values())) == len(text)


def slow_outcome(text, window, answer):
    if window in text:
        return "right"
    half = answer[len(answer) // 2 :]
    for period in range(1, len(half) // 2 + 1):
        if half == (half[:period] * len(half))[: len(half)]:
            return "loop"
    return "other"


def test_outcomes_against_strings(task):
    torch.manual_seed(0)
    text = random_text(100, "ab") + "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    for length in (1, 4, 7, 12):
        ours = task(text, 2, length)
        windows = {window for window, _ in slow_windows(text, 2 + length)}
        rows = torch.randint(2, (3000, 2 + length))
        rows[:200, -length // 2 :] = rows[:200, 2:3]
        true = ours.sample(200, Draws(1))
        rows[200:400] = torch.cat([true.prompt, true.answer], 1)
        batch = Batch(rows[:, :2], rows[:, 2:])
        found = ours.check(batch.prompt, batch.answer)
        expected = [slow_outcome(windows, row, row[2:]) for row in strings(ours, batch)]
        assert [ours.outcomes[i] for i in found.tolist()] == expected
        assert len({*expected}) == 3 or length == 1
    assert ours.outcomes[ours.check(rows[:1, :2], torch.full((1, 12), ours.dummy)).item()] == "loop"


def test_text(task, folder):
    torch.manual_seed(0)
    ours = task(random_text(800, '"$\\\t\n\u2028é😀'), 5, 6)
    lines = lines_of(ours, ours.sample(100, Draws(0)))
    assert all(isinstance(side, str) for line in lines for side in json.loads(line))
    text = OWN_TEXT.read_text().replace("e", "é")  # two bytes, and so two tokens, which a window may part
    tokens = task(text, 9, 9, tokenizer=folder)
    lines = lines_of(tokens, tokens.sample(200, Draws(0)))
    sides = [side for line in lines for side in json.loads(line)]
    plain = [side for side in sides if isinstance(side, str)]
    assert len(sides) / 10 < len(plain) < len(sides)
    assert all(side in text for side in plain)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", 'malformed; expected \\["prompt", "continuation"\\] in JSON'),
        ("3", "malformed"),
        ('["ab", 3]', "malformed"),
        ('["ab"]', "malformed"),
        ('["ab", ["a", "xy"]]', "malformed"),
        ('["ab", "axx"]', "'x' is not in the text of task.text_file; .*'abc'"),
        ('["ab", "a"]', "has 2 \\+ 1 tokens; expected 2 \\+ 2 \\(task.prompt_tokens, task.answer_tokens"),
        ('["cc", "cc"]', "not a window of task.text_file"),
        ('["ab", ["$", "$"]]', "not a window of task.text_file"),
    ],
)
def test_bad_lines(task, line, told):
    with pytest.raises(InputError, match=told):
        task("abaab" * 12 + "bbacb").parse(line)


def error_of(capsys, *words):
    assert run(["train", "experiment=smoke", "task=text_file", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        ("", "too short, with 0 tokens; expected at least 1024"),
        ("ab" * 511, "too short, with 1022 tokens; expected at least 1024: 16 windows of 32 \\+ 32"),
        ("a" * 2000, "repeats itself"),
        (b"\xff\xfe\x00", "not a text file; expected a text file in UTF-8"),
        (b"a\0" * 1000, "not a text file; expected a text file in UTF-8"),
    ],
)
def test_an_unsuitable_file(workplace, capsys, content, told):
    if content is not None:
        Path("x.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = error_of(capsys, "task.text_file=x.txt")
    assert line.startswith("forethought: task.text_file=x.txt: ")
    assert re.search(told, line)
    assert "task.text_file=.: not a regular file" in error_of(capsys, "task.text_file=.")


def test_unsuitable_words(workplace, capsys, folder):
    """A tokenizer, a prompt, and a model that do not go together."""
    assert "task.prompt=Ω: 'Ω' is not in the text" in error_of(capsys, "task.prompt='Ω'")
    assert "task.tokenizer=words: no such folder; expected characters" in error_of(
        capsys, "task.tokenizer=words"
    )
    Path("empty").mkdir()
    assert "task.tokenizer=empty: cannot be loaded (" in error_of(capsys, "task.tokenizer=empty")
    pairing = [f"task.tokenizer={folder}", "model=pretrained"]
    added = error_of(capsys, *pairing, f"model.name={folder}")
    assert f"model.vocabulary=added: not supported with task.tokenizer={folder}" in added
    assert added.endswith("use native")
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained("other")
    tokenizer.add_tokens(["anew"])
    tokenizer.save_pretrained("other")
    native = [*pairing, "model.vocabulary=native", "model.name=other"]
    assert f"task.tokenizer={folder}: its tokens are not those of model.name=other; use the same" in error_of(
        capsys, *native
    )
    native[0] = "task.tokenizer=other"
    assert "model.name=other: its tokenizer has more tokens than the 320 of the model" in error_of(
        capsys, *native
    )


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"^task.tokenizer=\S+: transformers is missing; .*\[pretrained\]"):
        TextFile(tokenizer=str(tmp_path))


@torch.no_grad()
def test_a_pretrained_model_gives_its_own_logits(folder):
    import transformers

    task = TextFile(tokenizer=folder, prompt_tokens=20, answer_tokens=5)
    model = Pretrained.for_task(task, name=folder, vocabulary="native")
    batch = task.sample(4, Draws(0))
    own = transformers.AutoModelForCausalLM.from_pretrained(folder)
    logits = own(torch.cat([batch.prompt, batch.answer], 1)).logits[:, 19:-1]
    torch.testing.assert_close(NextToken(model, task).answer_logits(batch)[..., :-1], logits)
    whole = transformers.AutoTokenizer.from_pretrained(folder).encode(OWN_TEXT.read_text())
    windows = {tuple(whole[first : first + 25]) for first in range(len(whole))}
    assert {*map(tuple, torch.cat([batch.prompt, batch.answer], 1).tolist())} <= windows


@pytest.mark.slow
def test_a_pretrained_model_is_tested_asked_and_trained(workplace, capsys, folder):
    """Test without training, ask a question of one's own, and train for a step."""
    words = ["train", "experiment=smoke", "task=text_file", f"task.tokenizer={folder}", "model=pretrained"]
    words += ["model.vocabulary=native", f"model.name={folder}", "task.prompt_tokens=20"]
    assert run([*words, "max_steps=0", "hydra.run.dir=as_built"]) == 0
    results = read_results(Path("as_built"))
    assert (results.status, results.steps) == ("finished", 0)
    model = Pretrained.for_task(TextFile(tokenizer=folder), name=folder, vocabulary="native")
    loaded = load("as_built")
    for name, weights in model.backbone.state_dict().items():
        assert torch.equal(weights, loaded.model.backbone.state_dict()[name])
    rows = Data(loaded.task, 0, 16).test(128)
    again = diagnose(loaded, loaded.task, rows)
    assert {f"test/{name}": value for name, value in again.items()} == results.metrics
    losses = [value for name, value in again.items() if name.startswith("forced_loss_")]
    assert len(losses) == 32
    assert sum(losses) / 32 == pytest.approx(again["forced_loss"])
    assert not [name for name in diagnose(loaded, loaded.task, rows, clever_hans=False) if "loss_" in name]

    capsys.readouterr()
    question = ["evaluate", "as_built", f'task.prompt="{ONCE}"', "evaluation.test_samples=3"]
    reports = []
    for decoding in ("greedy", "sample"):
        assert run([*question, f"evaluation.decoding={decoding}"]) == 0
        out = capsys.readouterr().out
        path = max(Path("as_built/evaluations").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        reports.append(json.loads(path.read_text()))
        for example in reports[-1]["examples"]:
            assert example["text"] == json.dumps([ONCE, ""])
            (answer,) = example["answer"]
            assert f"{example['text']}\n  {example['outcome']}: {answer}" in out
    answers = [[example["answer"][0] for example in report["examples"]] for report in reports]
    assert len({*answers[0]}) == 1
    assert len({*answers[1]}) == 3
    for report in reports:
        assert report["metrics"]["test/written_loss"] > 0
        assert not [name for name in report["metrics"] if "forced" in name or "token_accuracy" in name]

    assert run([*words, "max_steps=1", "hydra.run.dir=trained"]) == 0
    assert read_results(Path("trained")).steps == 1
    assert run(["report", "as_built"]) == 0


def test_a_prompt_of_one_s_own_leaves_training_and_validation(task):
    text = OWN_TEXT.read_text()
    asked = Data(task(text, 32, 32, prompt=ONCE), seed=0, batch_size=8)
    plain = Data(task(text, len(ONCE), 32), seed=0, batch_size=8)
    assert torch.equal(asked.batch(0).answer, plain.batch(0).answer)
    assert torch.equal(asked.validation(9).prompt, plain.validation(9).prompt)
    rows = asked.test(4)
    assert strings(asked.task, rows) == [ONCE + 32 * "$"] * 4
    assert plain.test(4).answer.ne(plain.task.dummy).all()
    metrics = diagnose(NextToken(gpt(asked.task), asked.task), asked.task, rows)
    assert metrics["accuracy"] + metrics["error_loop"] + metrics["error_other"] == 1


def test_an_edited_file_changes_later_tasks_alone(task):
    first, second = (task(random_text(400, characters), 4, 8) for characters in ("abcd", "xyz"))
    assert first.vocabulary == (*"abcd$",)
    assert second.vocabulary == (*"xyz$",)
    assert {*"".join(strings(first, first.sample(50, Draws(0))))} == {*"abcd"}


def test_few_rows_are_evaluated_at_a_time_with_a_large_vocabulary(folder):
    small, large = TextFile(), TextFile(tokenizer=folder, prompt_tokens=4, answer_tokens=64)
    assert evaluation_rows(small) == 2000
    assert 1000 < evaluation_rows(large) == 2**25 // (64 * 321) < 2000
