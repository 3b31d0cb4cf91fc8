"""Files with any content: a reader returns what they mean or raises InputError, nothing else."""

import io
import json
import re
import tempfile
from pathlib import Path

import pytest
import torch
from helpers import STAR, SUM, rows
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reports import make_run

from forethought.errors import InputError
from forethought.results import Results, read_curves, read_results
from forethought.sweeps import read_grid
from forethought.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

fuzz = settings(deadline=None, max_examples=200)


def lines(task):
    batch = rows(task, 2)
    return "".join(f"{task.text(*row)}\n" for row in zip(batch.prompt, batch.answer, strict=True)).encode()


RESULTS = make_run(cell="c").model_dump_json()
GRID = json.dumps({"a-1": ["seed=1"], "a-2": ["--config-dir=x", "seed=2"]})
CURVES = "step,train/loss,val/accuracy\n5,1.5,\n10,1.25,0.5\n"

BITS = [b"0", b"-1", b",", b"|", b"\n", b"null", b"[]"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=10,
)


@st.composite
def damaged(draw, whole: bytes):
    """A valid file after a few edits: truncated, or bytes removed, inserted, replaced or repeated."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        until = min(len(content), at + draw(st.integers(0, 8)))
        kind = draw(st.sampled_from(["cut", "take", "put", "repeat"]))
        if kind == "cut":
            del content[at:]
        elif kind == "repeat":
            content[at:at] = content[at:until]
        else:
            new = draw(st.binary(max_size=4) | st.sampled_from(BITS))
            content[at:until] = b"" if kind == "take" else new
    return bytes(content)


@st.composite
def altered(draw, whole):
    """A valid JSON value with one part, however deep, replaced, removed or renamed."""
    value = json.loads(whole)
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        below = node[key]
        if isinstance(below, dict | list) and below and draw(st.booleans()):
            node = below
            continue
        kind = draw(st.sampled_from(["replace", "take", "rename"]))
        if kind == "replace":
            node[key] = draw(anything)
        else:
            del node[key]
            if kind == "rename" and isinstance(node, dict):
                node[draw(st.text(max_size=5))] = below
        return json.dumps(value).encode()


def bytes_like(whole):
    return st.binary(max_size=200) | damaged(whole) | anything.map(lambda value: json.dumps(value).encode())


def read(reader, content, name):
    """Read a file with this content. Return None for an InputError, which must be one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return reader(path)
        except InputError as error:
            refusal = str(error)
    assert str(path) in refusal
    assert len(refusal.splitlines()) == 1
    assert re.search("; (expected|use|correct|delete) ", refusal)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("task", [STAR, SUM], ids=["path_star", "addition"])
@fuzz
@given(data=st.data())
def test_task_files(task, data):
    """An accepted row is right, and is written as it was read."""
    content = data.draw(st.binary(max_size=200) | damaged(lines(task)) | st.text(max_size=80).map(str.encode))
    batch = read(lambda path: task.read(str(path)), content, "rows.txt")
    if batch is not None:
        assert not task.check(batch.prompt, batch.answer).any()
        again = [task.parse(task.text(*row)) for row in zip(batch.prompt, batch.answer, strict=True)]
        assert again == list(zip(batch.prompt.tolist(), batch.answer.tolist(), strict=True))


@fuzz
@given(
    line=st.lists(st.sampled_from("0123456789,|/=-"), max_size=40).map("".join),
    swaps=st.lists(st.tuples(st.integers(0, 26), st.integers(-1, 9)), max_size=3),
)
def test_graphs_with_other_nodes(line, swaps):
    """The published alphabet, and graphs of the right form with wrong nodes."""
    assert read(lambda path: STAR.read(str(path)), line.encode(), "rows.txt") is None
    nodes = [3, 1, 1, 2, 2, 0, 3, 5, 5, 4, 4, 6, 3, 0, 3, 1, 2, 0]
    for place, node in swaps:
        nodes[place % len(nodes)] = node
    edges = "|".join(f"{tail},{head}" for tail, head in zip(nodes[:12:2], nodes[1:12:2], strict=True))
    graph = f"{edges}/{nodes[12]},{nodes[13]}={','.join(map(str, nodes[14:]))}\n"
    batch = read(lambda path: STAR.read(str(path)), graph.encode(), "rows.txt")
    if batch is None:
        assert swaps
    else:
        assert not STAR.check(batch.prompt, batch.answer).any()


@fuzz
@given(content=bytes_like(RESULTS.encode()) | altered(RESULTS))
@example(content=RESULTS.encode())
@example(content=b"[" * 100_000)
@example(content=b'{"seed": ' + b"1" * 5000 + b"}")
@example(content=RESULTS.replace('"c"', '"\\ud800"').encode())
@example(content=RESULTS[:-1].encode() + b', "two\\nlines": 1}')
def test_results_files(content):
    found = read(lambda path: read_results(path.parent), content, "results.json")
    assert found is None or isinstance(found, Results)
    assert found is not None or content != RESULTS.encode()


@fuzz
@given(content=bytes_like(GRID.encode()) | altered(GRID))
def test_grid_files(content):
    found = read(lambda path: read_grid(path.parent), content, "grid.json")
    assert found is None or all(isinstance(word, str) for words in found.values() for word in words)


@fuzz
@given(content=bytes_like(CURVES.encode()))
@example(content=CURVES.encode())
@example(content=b"step\n1,2,3\n")
@example(content=b'step\n"1')
@example(content=b"step\x00\n1\n")
def test_curves(content):
    found = read(read_curves, content, "metrics.csv")
    assert found is None or all(isinstance(value, float) for row in found for value in row.values())
    assert found is not None or content != CURVES.encode()


def checkpoint(**state):
    file = io.BytesIO()
    torch.save({"global_step": 1, "state_dict": {"a": torch.ones(3)}, **state}, file)
    return file.getvalue()


STATE = {"steps_to_solve": None, "seconds": 1.0}
CHECKPOINT = checkpoint(forethought={"version": 2, **STATE})
OLDER = checkpoint(callbacks={"Progress": {"rows": [{"step": 1}], "best_accuracy": 0.5, **STATE}})


@fuzz
@given(content=st.binary(max_size=200) | damaged(CHECKPOINT) | damaged(OLDER))
@example(content=CHECKPOINT)
@example(content=OLDER)
@example(content=CHECKPOINT[:-1])
def test_checkpoints(content):
    found = read(read_checkpoint, content, "last.ckpt")
    assert found is None or isinstance(found["state_dict"], dict)
    assert found is None or found["forethought"]["version"] == 2
    assert found is not None or content not in (CHECKPOINT, OLDER)
