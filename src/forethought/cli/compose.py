"""Hydra, in one place: from command-line words to composed configs, and to running them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forethought.cli.pool import POOL, check_pool
from forethought.errors import InputError
from forethought.sweep import Cell, cell_name

CONFIG_NAME = "config"


def config_folder() -> Path:
    """conf/ inside the package where it is installed, beside src/ in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as resolved nested dicts and lists, without Hydra's own node."""
    visible = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    resolved = OmegaConf.to_container(visible, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def choices_of(hydra_node: Any) -> dict[str, str]:
    """The chosen file of each of our own config groups, from the config's `hydra` node."""
    chosen = hydra_node.runtime.choices
    return {str(group): str(chosen[group]) for group in chosen if "hydra" not in str(group)}


# `${cell:}` in hydra.run.dir and hydra.sweep.subdir. Registered here, at import, because launchers
# compose in processes of their own.
OmegaConf.register_new_resolver(
    "cell", lambda *, _root_: cell_name(plain(_root_), choices_of(_root_.hydra)), replace=True
)


class Composer:
    """One command line for `forethought train`.

    Raises:
        InputError: words that are no flags and no overrides, or a folder that is not there.
    """

    def __init__(self, arguments: list[str]) -> None:
        version.setbase("1.3")
        parser = get_args_parser()
        parser.error = _refuse  # type: ignore[method-assign]
        self.arguments = arguments
        self.flags: argparse.Namespace = parser.parse_intermixed_args(arguments)
        self.overrides: list[str] = self.flags.overrides
        self.flag_words = self._words_to_keep()
        search_path = create_config_search_path(str(config_folder()))
        if self.flags.config_dir is not None:
            folder = Path(self.flags.config_dir).absolute()
            if not folder.is_dir():
                raise InputError(f"--config-dir={self.flags.config_dir}: no such folder; expected one")
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
        GlobalHydra.instance().clear()
        self.hydra = Hydra.create_main_hydra2("forethought", search_path)

    @property
    def only_shows(self) -> bool:
        """Whether a flag asks Hydra to print something rather than to run anything."""
        flags = self.flags
        return bool(flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)

    def show(self, task: TaskFunction) -> None:
        """Let Hydra print what it was asked for."""
        if self.flags.cfg and self.flags.multirun:
            raise InputError("--cfg: shows one config; expected it without -m")
        if self.flags.cfg:
            self.compose(self.overrides, RunMode.RUN)
        GlobalHydra.instance().clear()
        sys.argv = ["forethought train", *self.arguments]
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=CONFIG_NAME)(task)()

    def compose(self, overrides: list[str], mode: RunMode) -> DictConfig:
        """
        Raises:
            InputError: the overrides do not compose.
        """
        try:
            return self.hydra.compose_config(
                self.flags.config_name or CONFIG_NAME,
                [*overrides, f"hydra.mode={mode.name}"],
                mode,
                with_log_configuration=False,
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        except ValueError as error:  # Hydra's own word for a group that is given no name
            raise InputError(f"{' '.join(overrides)}: {error}; expected GROUP=CHOICE") from None

    def _words_to_keep(self) -> list[str]:
        """The words that a resume must repeat, from whatever folder: which configs to compose."""
        flags = [f"--config-name={self.flags.config_name}"] if self.flags.config_name else []
        if self.flags.config_dir:
            flags.append(f"--config-dir={Path(self.flags.config_dir).absolute()}")
        return flags

    @property
    def is_sweep(self) -> bool:
        return bool(self.flags.multirun)

    def cells(self) -> list[Cell]:
        """The cells that this command line names, each once.

        Raises:
            InputError: one of them does not compose.
        """
        if not self.is_sweep:
            cell = self.cell(self.overrides, sweep=False)
            if cell.config["replicas"] != 1:
                raise _no_replicas(cell.config["replicas"], "a single run has one seed", "-m 'seed=range(N)'")
            return [cell]
        try:
            grid = self._grid()
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        named = {cell.name: cell for overrides in grid if (cell := self.cell(overrides, sweep=True))}
        return list(named.values())

    def _grid(self) -> Sequence[list[str]]:
        """The product of all comma-separated values, those of an experiment file included."""
        config = self.compose(self.overrides, RunMode.MULTIRUN)
        if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
            raise InputError("hydra/sweeper: a sweep is a grid here; expected basic")
        if str(config.hydra.launcher._target_) == POOL:
            check_pool(config.hydra.launcher)
        elif config.replicas != 1:
            raise _no_replicas(config.replicas, "this launcher runs cells one by one", "hydra/launcher=pool")
        swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
        parser = OverridesParser.create(config_loader=self.hydra.config_loader)
        parsed = parser.parse_overrides([*swept, *config.hydra.overrides.task])
        grid = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
        if not grid:
            raise InputError(f"{' '.join(self.overrides)}: names no cell; expected at least one value a key")
        return grid

    @property
    def _hydras(self) -> list[str]:
        return [word for word in self.overrides if word.lstrip("+~").startswith("hydra")]

    def cell(self, overrides: list[str], sweep: bool) -> Cell:
        """One cell from overrides without commas.

        Raises:
            InputError: the overrides do not compose, or leave a value open.
        """
        config = self.compose([*self._hydras, *overrides] if sweep else overrides, RunMode.RUN)
        try:
            node, settings = config.hydra, plain(config)
            folder = Path(node.sweep.dir, node.sweep.subdir) if sweep else Path(node.run.dir)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        choices = choices_of(node)
        name = cell_name(settings, choices)
        return Cell(name, settings["sweep"] if sweep else None, choices, overrides, settings, folder)

    def run(self, task: TaskFunction, cells: Sequence[Sequence[str]]) -> list[Any]:
        """Run cells through Hydra: a single one here, those of a sweep through the launcher.

        Returns what the task returned for each cell or, where the launcher is the pool, how the cell's
        process ended. What goes wrong inside a cell is for the task to record.

        Args:
            cells: the overrides of each.
        """
        if not self.is_sweep:
            done = self.hydra.run(self.flags.config_name or CONFIG_NAME, task, self.overrides)
            return [done.return_value]
        # As the first cell has it, where cells differ: what a resume is told is a folder alone.
        config = self.compose([*self._hydras, *cells[0]], RunMode.MULTIRUN)
        context = HydraContext(self.hydra.config_loader, Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
        returns: Sequence[JobReturn] = launcher.launch(cells, initial_job_idx=0)
        return [job.return_value for job in returns]  # raises what a task raised


def _no_replicas(value: Any, why: str, instead: str) -> InputError:
    return InputError(f"replicas={value}: {why}; expected replicas=1, or {instead}")


def _refuse(message: str) -> NoReturn:
    raise InputError(f"{message}; expected flags of Hydra and KEY=VALUE")


def explain(error: Exception) -> InputError:
    """Hydra's complaint as one line that names the key, the value and what would be accepted."""
    if isinstance(error, OverrideParseException):
        return InputError(f"{error.override}: cannot be read; expected KEY=VALUE")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        expected = f"expected one of {', '.join(error.options)}" if error.options else "expected a file"
        return InputError(f"{group or 'config-name'}={choice}: no such choice; {expected}")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, OmegaConfBaseException) and "not in struct" in str(cause):
        parent, _, key = (cause.full_key or str(cause.key)).rpartition(".")
        hidden = ("_target_", "label", "hydra")
        siblings = ", ".join(name for name in (cause.parent_node or ()) if name not in hidden)
        return InputError(
            f"{'.'.join(filter(None, [parent, key]))}: no such key; expected one of {siblings or 'none'}"
        )
    return InputError(str(error).splitlines()[0].rstrip(". "))
