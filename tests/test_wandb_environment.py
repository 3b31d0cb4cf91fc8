"""W&B's variables, folders and agents: errors of one line, and results that do not depend on W&B."""

from pathlib import Path

import pytest
import wandb
from wandb_file import history_of, inspect, records

from forethought.cli.main import run
from forethought.results import read_curves, read_results

pytestmark = pytest.mark.slow

TINY = ["experiment=smoke", "model.layers=1", "model.width=16"]
SINGLE = ["train", *TINY, "hydra.run.dir=run"]
SWEEP = ["train", "-m", "sweep=s", "hydra/launcher=basic", *TINY]


@pytest.fixture
def fresh(workplace, monkeypatch):
    """W&B reads its variables anew, and those that this project may set are restored."""
    wandb.teardown()
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(workplace / "own"))
    yield monkeypatch
    wandb.teardown()


def entries(folder):
    return [path.parent for path in sorted(Path(folder, "wandb").glob("*run-*/*.wandb"))]


WRONG = {
    "WANDB_MODE=foo": "online, offline, disabled",
    "WANDB_MODE=shared": "online, offline, disabled",
    "WANDB_MODE=": "online, offline, disabled",
    "WANDB_RESUME=true": "allow, must, never, auto",
    "WANDB_FORK_FROM=run?_step=1": "not supported",
    "WANDB_BASE_URL=localhost:8080": "'http' or 'https'",
    "WANDB_SILENT=loud": "expected a valid boolean",
    "WANDB_HTTP_TIMEOUT=soon": "expected a valid number",
    "WANDB_RUN_ID=a/b": "cannot contain",
    "WANDB_SWEEP_ID= ": "whitespace",
    "WANDB_SWEEP_PARAM_PATH=nowhere.yaml": "no such file",
    "WANDB_PROJECT=a/b": "cannot contain",
    "WANDB_TAGS=" + "x" * 70: "between 1 and 64",
}


@pytest.mark.parametrize("words", [SINGLE, SWEEP], ids=["single", "sweep"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_variable_is_one_line(workplace, monkeypatch, capsys, wrong, words):
    monkeypatch.setenv(*wrong.split("=", 1))
    assert run([*words, "logger=wandb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"forethought: {wrong}: ")
    assert WRONG[wrong] in line
    assert not list(Path().iterdir())


def test_a_key_is_not_printed(workplace, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", " secret")
    assert run([*SINGLE, "logger=wandb"]) == 2
    err = capsys.readouterr().err
    assert "WANDB_API_KEY" in err
    assert "secret" not in err


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"])
def test_a_disk_that_w_and_b_cannot_write_costs_nothing(fresh, tmp_path, capfd, variable):
    Path("file").touch()
    if variable == "HOME":
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            fresh.delenv(name)
        fresh.delenv("XDG_CACHE_HOME", raising=False)
        fresh.delenv("XDG_DATA_HOME", raising=False)
    fresh.setenv("TMPDIR", str(tmp_path))
    fresh.setattr("tempfile.tempdir", None)  # tempfile reads TMPDIR once
    fresh.setenv(variable, str(tmp_path / "file" / "below"))
    assert run([*SWEEP, "logger=wandb"]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if line]
    assert said
    assert all("file/below" in line and "cannot be written" in line for line in said), said
    (cell,) = (path for path in Path("multirun/s").glob("path*"))
    results = read_results(cell)
    assert (results.status, results.verdict) == ("finished", "undertrained")
    assert len(read_curves(cell / "metrics.csv")) == 4
    homes = tmp_path.glob("wandb-*") if variable == "WANDB_DIR" else [Path("multirun/s")]
    found = [path for home in homes for path in entries(home)]
    one, summary = sorted(found, key=lambda path: "summary" in path.name)
    assert history_of(one) == read_curves(cell / "metrics.csv")
    assert inspect(one)["summary"]["verdict"] == results.verdict
    assert list(summary.glob("files/media/images/plots/*.png"))


def test_without_a_home_w_and_b_has_a_temporary_one(fresh, workplace):
    def unknown(user):
        raise KeyError(user)

    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC"):
        fresh.delenv(name)
    fresh.setattr("pwd.getpwuid", unknown)
    assert run([*SINGLE, "logger=wandb"]) == 0
    (entry,) = entries("run")
    assert history_of(entry) == read_curves(Path("run/metrics.csv"))
    assert not Path("~").exists()


def test_without_a_service_the_run_is_whole(fresh, capfd):
    fresh.setenv("WANDB_SERVICE", "elsewhere")
    assert run([*SINGLE, "logger=wandb"]) == 0
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert "WANDB_SERVICE='elsewhere'" in line
    assert line.endswith("W&B gets nothing of this run")
    assert "wandb sync" not in out
    assert read_results(Path("run")).verdict == "undertrained"
    assert len(read_curves(Path("run/metrics.csv"))) == 4


@pytest.mark.parametrize("name", ["WANDB_SWEEP_ID", "WANDB_LAUNCH"])
def test_a_sweep_inside_an_agent_is_rejected(workplace, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    assert run([*SWEEP, "logger=wandb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}=true" in line
    assert "WANDB_RUN_ID" in line
    assert not list(Path().iterdir())
    assert run([*SWEEP, "logger=wandb", "dry_run=true", "logger=csv"]) == 0


@pytest.mark.slow
def test_a_sweep_does_not_take_names_and_ids_from_variables(fresh):
    given = dict.fromkeys(("RUN_ID", "NAME", "RUN_GROUP", "JOB_TYPE", "TAGS"), "given") | {"RESUME": "must"}
    for name, value in given.items():
        fresh.setenv(f"WANDB_{name}", value)
    assert run([*SWEEP, "seed=0,1", "logger=wandb"]) == 0
    found = [inspect(path) for path in entries("multirun/s")]
    assert {there["name"] for there in found} == {"s0", "s1", "summary of s"}
    assert len({there["run_id"] for there in found} - {"given"}) == 3
    for path in entries("multirun/s"):
        (start,) = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
        assert start.run_group == "s"
        assert "given" not in (start.job_type, *start.tags)


def test_finished_cells_are_sent_when_asked_for(fresh, capsys):
    words = [*SWEEP, "seed=0,1"]
    assert run([*words, "logger=csv"]) == 0
    capsys.readouterr()
    wandb_words = [*words, "logger=wandb"]
    assert run(wandb_words) == 0
    out = capsys.readouterr().out
    assert "W&B: 2 finished before and not sent; logger.send_finished=true" in out
    assert not Path("multirun/s/wandb").exists()

    assert run(["resume", "multirun/s", "logger=wandb", "logger.send_finished=true"]) == 0
    assert capsys.readouterr().out.count("sent to W&B") == 2
    assert len(entries("multirun/s")) == 3  # with the summary
    for cell in Path("multirun/s").glob("path*"):
        results = read_results(cell)
        assert results.choices["logger"] == "wandb"  # for `forethought dashboard`
        id = (cell / ".wandb_id").read_text().strip()
        (path,) = (path for path in entries("multirun/s") if path.name.endswith(id))
        assert history_of(path) == read_curves(cell / "metrics.csv")
        there = inspect(path)["summary"]
        assert {name: there[name] for name in results.metrics} == results.metrics
        assert there["verdict"] == results.verdict

    assert run([*wandb_words, "logger.send_finished=true"]) == 0
    assert "W&B:" not in capsys.readouterr().out
    assert len(entries("multirun/s")) == 3


def test_a_finished_single_run_is_sent_when_asked_for(fresh, capsys):
    assert run([*SINGLE, "logger=csv"]) == 0
    assert run([*SINGLE, "logger=wandb"]) == 0
    assert "logger.send_finished=true" in capsys.readouterr().out
    assert run([*SINGLE, "logger=wandb", "logger.send_finished=true"]) == 0
    (path,) = entries("run")
    assert history_of(path) == read_curves(Path("run/metrics.csv"))
    assert "logger.send_finished" not in capsys.readouterr().out
