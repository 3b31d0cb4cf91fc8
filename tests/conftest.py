"""Annotated shapes are checked at run time while the tests run (`typecheck.py`)."""

import os
import random
import socket
from pathlib import Path

import pytest
import typecheck


def pytest_configure(config):
    """Import what takes seconds, but not in the process that only hands out tests to others (xdist)."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    # What a hooked module imports is compiled anew in each process. So these come first.
    import hydra  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import pandas  # noqa: F401
    import pydantic  # noqa: F401
    import torch
    from jaxtyping import install_import_hook

    install_import_hook("forethought", "typecheck.check")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def shapes():
    """The first calls of every function are checked in each test."""
    typecheck.start_checking()


@pytest.fixture(autouse=True)
def environment():
    """Leave no variable behind, such as Ray's or those of DDP ranks, to the processes of later tests.

    The commit stays: to ask git for it takes a while.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys() - {"FORETHOUGHT_COMMIT"}:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder; W&B finds no account."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def faulty(workplace, monkeypatch):
    """Command-line words for `faulty.py`, and the environment in which processes find it."""
    from helpers import TINY

    Path("my_conf/objective").mkdir(parents=True)
    Path("my_conf/objective/faulty.yaml").write_text(
        "_target_: faulty.Faulty\nlabel: ${.fault}\nfault: none\nat: 3\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    return ["--config-dir=my_conf", "objective=faulty", *TINY]


@pytest.fixture
def long_temporary_folder(tmp_path, monkeypatch):
    """A TMPDIR in which the path of a socket is too long, as in many jobs of Slurm."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def gpt2_checkpoint(tmp_path_factory):
    """The folder of a tiny GPT-2 with random weights, where transformers is installed."""
    import torch

    transformers = pytest.importorskip("transformers", reason="needs the extra [pretrained]")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=30, n_positions=128, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("gpt2")
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def needed_options(request):
    """Model options without which a choice of model cannot be built."""

    def options(model):
        return {"name": request.getfixturevalue("gpt2_checkpoint")} if model == "pretrained" else {}

    return options


@pytest.fixture
def main_port(monkeypatch):
    """A free port below those that the system gives out, which Lightning takes from MASTER_PORT.

    Its own choice, any free port, may be taken by another process until DDP listens, seconds later.
    """
    for port in random.Random().sample(range(10_000, 30_000), k=100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                monkeypatch.setenv("MASTER_PORT", str(port))
                return port
    raise AssertionError("no free port")


@pytest.fixture
def server(workplace, monkeypatch):
    """A W&B server of our own that this process is logged in to."""
    import wandb
    from wandb_server import serving

    wandb.teardown()  # W&B reads its settings once
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield server
        server.released.set()
        wandb.teardown()
