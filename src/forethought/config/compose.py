"""Hydra, in one place: from command-line words to composed configs, and to running them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forethought.cli.explain import explain
from forethought.cli.launchers import check_launcher, runs_here
from forethought.cli.loader import Loader
from forethought.errors import InputError
from forethought.sweep import Cell, cell_name

CONFIG_NAME = "config"
_BASIC, _OPTUNA = ".BasicSweeper", ".OptunaSweeper"


def config_folder() -> Path:
    """conf/ inside the package where it is installed, beside src/ in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as resolved nested dicts and lists, without Hydra's own node."""

    def resolved(value: Any) -> Any:
        nested = OmegaConf.is_config(value)
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if nested else value

    return {str(key): resolved(config[key]) for key in config if key != "hydra"}


def choices_of(hydra_node: Any) -> dict[str, str]:
    """The chosen file of each of our own config groups, from the config's `hydra` node."""
    chosen = hydra_node.runtime.choices
    return {str(group): str(chosen[group]) for group in chosen if "hydra" not in str(group)}


def cell_of(config: DictConfig, node: Any) -> Cell:
    """
    Args:
        node: the config's `hydra` node, which the config itself need not hold any more.
    """
    settings, choices = plain(config), choices_of(node)
    of_sweep = node.mode is RunMode.MULTIRUN
    return Cell(
        name=cell_name(settings, choices),
        sweep=settings["sweep"] if of_sweep else None,
        choices=choices,
        overrides=[str(word) for word in node.overrides.task],
        config=settings,
        folder=Path(node.sweep.dir, node.sweep.subdir) if of_sweep else Path(node.run.dir),
    )


# `${cell:}` in hydra.run.dir and hydra.sweep.subdir. Registered here, at import, because cells
# resolve them in processes of their own.
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
        self._refuse_idle_flags()
        self.overrides: list[str] = self.flags.overrides
        self.flag_words = self._words_to_keep()
        search_path = create_config_search_path(str(config_folder()))
        if self.flags.config_dir is not None:
            folder = Path(self.flags.config_dir).absolute()
            if not folder.is_dir():
                raise InputError(f"--config-dir={self.flags.config_dir}: no such folder; expected one")
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
        GlobalHydra.instance().clear()
        self.loader = Loader(search_path)
        self.hydra = Hydra("forethought", self.loader)
        GlobalHydra.instance().initialize(self.hydra)
        _prefer_our_files()

    @property
    def only_shows(self) -> bool:
        """Whether a flag asks Hydra to print something rather than to run anything."""
        flags = self.flags
        return bool(flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)

    def show(self, task: TaskFunction) -> None:
        """Let Hydra print what it was asked for.

        Raises:
            InputError: there is nothing to show, because the overrides do not compose.
        """
        if self.flags.cfg and self.flags.multirun:
            raise InputError("--cfg: shows one config; expected it without -m")
        self.compose(self.overrides, RunMode.RUN)
        GlobalHydra.instance().clear()
        flags = [word for word in self.arguments if word not in self.overrides]
        sys.argv = ["forethought train", *flags, *self.overrides]
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=CONFIG_NAME)(task)()

    def compose(self, overrides: list[str], mode: RunMode, of_sweep: bool = False) -> DictConfig:
        """
        Args:
            of_sweep: with the mode RUN, the config of one cell of a sweep.

        Raises:
            InputError: the overrides do not compose.
        """
        named = RunMode.MULTIRUN if of_sweep else mode
        try:
            return self.hydra.compose_config(
                self.flags.config_name or CONFIG_NAME,
                [*overrides, f"hydra.mode={named.name}"],
                mode,
                with_log_configuration=False,
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        except ValueError:  # Hydra's own word for a group that is given no name
            word = next(filter(self._names_no_choice, overrides), " ".join(overrides))
            raise InputError(f"{word}: names no choice; expected GROUP=CHOICE") from None

    def _names_no_choice(self, word: str) -> bool:
        override = self._parse([word])[0]
        is_group = bool(self.hydra.config_loader.get_group_options(override.key_or_group))
        return is_group and not isinstance(override.value(), str | list | dict)

    def _parse(self, words: list[str]) -> list[Override]:
        return OverridesParser.create(config_loader=self.hydra.config_loader).parse_overrides(words)

    def _refuse_idle_flags(self) -> None:
        """Flags of Hydra that would go unheeded."""
        flags = self.flags
        if flags.config_path:
            raise InputError(f"--config-path={flags.config_path}: expected --config-dir, which adds a folder")
        if flags.experimental_rerun:
            raise InputError("--experimental-rerun: expected `forethought resume FOLDER`")
        if (flags.package or flags.resolve) and not (flags.cfg or flags.help):
            raise InputError("--package, --resolve: say how --cfg shows a config; expected --cfg with them")

    def _words_to_keep(self) -> list[str]:
        """The words that a resume must repeat, from whatever folder: which configs to compose."""
        flags = [f"--config-name={self.flags.config_name}"] if self.flags.config_name else []
        if self.flags.config_dir:
            flags.append(f"--config-dir={Path(self.flags.config_dir).absolute()}")
        return flags

    @property
    def is_sweep(self) -> bool:
        return bool(self.flags.multirun)

    def runs_here(self) -> bool:
        """Whether this machine's hardware is that of the cells."""
        return not self.is_sweep or runs_here(self.sweep_config.hydra.launcher)

    @cached_property
    def sweep_config(self) -> DictConfig:
        """The config that the cells of a sweep share, sweeper and launcher in it.

        Raises:
            InputError: it does not compose, or sweeper or launcher cannot be.
        """
        config = self.compose(self.overrides, RunMode.MULTIRUN)
        sweeper = str(config.hydra.sweeper._target_)
        if sweeper.endswith(_OPTUNA) and find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
            raise InputError("hydra/sweeper=optuna: is missing; expected `pip install forethought[optuna]`")
        if not sweeper.endswith((_BASIC, _OPTUNA)):
            raise InputError("hydra/sweeper: no sweeper for this; expected basic (a grid) or optuna")
        if (replicas := config.get("replicas", 1)) != 1 and not sweeper.endswith(_BASIC):
            raise _no_replicas(replicas, "a search asks for cells one by one", "hydra/sweeper=basic")
        check_launcher(config.hydra.launcher)
        return config

    @property
    def is_search(self) -> bool:
        """Whether the cells are not known before some have run."""
        return self.is_sweep and str(self.sweep_config.hydra.sweeper._target_).endswith(_OPTUNA)

    def sweeper(self, **options: Any) -> Any:
        """Hydra's plugin that chooses the cells of a search, with these options changed."""
        config = deepcopy(self.sweep_config)
        config.hydra.sweeper.update(options)
        context = HydraContext(self.hydra.config_loader, Callbacks(config))
        return Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=_never, config=config
        )

    def cells(self) -> list[Cell]:
        """The cells that this command line names, each once.

        Raises:
            InputError: one of them does not compose.
        """
        if not self.is_sweep:
            cell = self.cell(self.overrides, sweep=False)
            if (replicas := cell.config.get("replicas", 1)) != 1:
                raise _no_replicas(replicas, "a single run has one seed", "-m 'seed=range(N)'")
            return [cell]
        try:
            grid = self._grid()
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        cells = [self.cell(overrides, sweep=True) for overrides in grid]
        sweeps = sorted({str(cell.folder.parent) for cell in cells})
        if len(sweeps) > 1:
            raise InputError(f"sweep: its cells would lie in {', '.join(sweeps)}; expected one folder")
        return _each_once(cells)

    def _grid(self) -> Sequence[list[str]]:
        """The product of all comma-separated values, those of an experiment file included."""
        config = self.sweep_config
        replicas = config.get("replicas", 1)
        if replicas != 1 and not str(config.hydra.launcher._target_).endswith(".Pool"):
            raise _no_replicas(replicas, "this launcher runs cells one by one", "hydra/launcher=pool")
        swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
        parsed = self._parse([*swept, *config.hydra.overrides.task])
        for override in filter(Override.is_sweep_override, parsed):
            _refuse_without_values(override)
        return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]

    @property
    def _hydras(self) -> list[str]:
        return [word for word in self.overrides if word.lstrip("+~").startswith("hydra")]

    def cell(self, overrides: list[str], sweep: bool) -> Cell:
        """One cell from overrides without commas.

        Raises:
            InputError: the overrides do not compose, or leave a value open.
        """
        words = [*self._hydras, *overrides] if sweep else overrides
        config = self.compose(words, RunMode.RUN, of_sweep=sweep)
        node = config.hydra
        try:
            cell = cell_of(config, node)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
        if not (node.sweep if sweep else node.run).dir:
            raise InputError(f"hydra.{'sweep' if sweep else 'run'}.dir=: expected the path of a folder")
        if sweep and cell.folder.name != cell.name:
            raise InputError(
                f"hydra.sweep.subdir={node.sweep.subdir}: a cell's folder has the cell's name; expected it "
                "as it is"
            )
        if sweep:
            self.loader.keep(cell.overrides, config)
        return cell

    def run(self, task: TaskFunction, cells: Sequence[Sequence[str]]) -> list[Any]:
        """Run cells through Hydra: a single one here, those of a sweep through the launcher.

        Returns what the task returned for each cell or, where a launcher of ours gives it a process of its
        own, how that was lost, if it was. What goes wrong inside a cell is for the task to record.

        Args:
            cells: the overrides of each, which have been composed before.
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


def _each_once(cells: list[Cell]) -> list[Cell]:
    """
    Raises:
        InputError: cells differ in what does not tell them apart, as `hardware` does not.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        if found.setdefault(cell.name, cell).config != cell.config:
            words = sorted({*cell.overrides} ^ {*found[cell.name].overrides})
            raise InputError(
                f"{', '.join(words)}: would be one cell, {cell.name}; expected one of them, or a sweep=NAME "
                "for each"
            )
    return list(found.values())


def _no_replicas(value: Any, why: str, instead: str) -> InputError:
    return InputError(f"replicas={value}: {why}; expected replicas=1, or {instead}")


def _prefer_our_files() -> None:
    """Plugins may store nodes under the names of files in conf/hydra; Hydra refuses to have both."""
    stored = ConfigStore.instance().repo["hydra"]
    for path in (config_folder() / "hydra").glob("*/*.yaml"):
        stored.get(path.parent.name, {}).pop(path.name, None)


def _never(config: DictConfig) -> None:
    """A sweeper wants a task, though its launcher here has its own."""


def _refuse(message: str) -> NoReturn:
    raise InputError(f"{message}; expected flags of Hydra and KEY=VALUE")


def _refuse_without_values(override: Override) -> None:
    try:
        count = len(list(override.sweep_string_iterator()))
    except (HydraException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{override.input_line}: {reason}; expected values with commas, range(…) or glob(…)"
        ) from None
    if not count:
        raise InputError(f"{override.input_line}: names no cell; expected at least one value")
