"""Compose cells from command-line words."""

from __future__ import annotations

import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from forethought.config.explain import HIDDEN, NO_PACKAGE, explain_hydra
from forethought.config.yaml_files import explain_yaml, find_broken_yaml
from forethought.config_folder import config_folder
from forethought.errors import InputError, expected_one_of
from forethought.sweeps import NOT_IDENTITY, Cell, cell_name

CONFIG_NAME = "config"
_OF_HYDRA = (
    "hydra.run",
    "hydra.sweep",
    "hydra.sweeper",
    "hydra.launcher",
    "hydra.searchpath",
    "hydra.job.chdir",
)
_CONSTRUCTED = (
    "task",
    "model",
    "objective",
    "optimizer",
    "hardware",
    "logger",
    "hydra/launcher",
    "hydra/sweeper",
)  # groups of which every choice has a `_target_`
_OPEN = ("trainer", "callbacks")  # nodes that take keys which their YAML file does not list


class Composer:
    """One command line of `forethought train`.

    Args:
        overrides: KEY=VALUE words.
        config_dir: a further folder of YAML files.
        folder: of the sweep or single run, if it is not to follow from the config.

    Raises:
        InputError: the words cannot be read, or there is no such folder.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        is_sweep: bool = False,
        config_dir: str | None = None,
        config_name: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.is_sweep, self.folder = is_sweep, folder
        self.config_name = config_name or CONFIG_NAME
        self.flags = [f"--config-name={config_name}"] if config_name else []
        started = time.localtime()
        GlobalHydra.instance().clear()
        initialize_config_dir(str(config_folder()), version_base="1.3")
        for path in (config_folder() / "hydra").glob("*/*.yaml"):
            # Hydra and its plugins store nodes under the names of these files, and would mix the two.
            ConfigStore.instance().repo["hydra"].get(path.parent.name, {}).pop(path.name, None)
        # Resolve the time once a command, so that a cell is run in the folder in which it was checked.
        OmegaConf.register_new_resolver("now", lambda form: time.strftime(form, started), replace=True)
        self._loader: Any = GlobalHydra.instance().config_loader()
        # A key with a dot is no group. Hydra lists its folders anew for each question, which takes 5 ms.
        self._is_group = cache(lambda name: "." not in name and bool(self._loader.get_group_options(name)))
        self._bases: dict[tuple[str, ...], bytes] = {}
        self._absent: _AbsentKeys | None = None
        parsed = self._parse(list(overrides))
        self._hydra = [o for o in parsed if o.is_hydra_override()]
        self._own = [o for o in parsed if not o.is_hydra_override()]
        for entry in self._given_entries():
            self._refuse_shadowed(entry, f"hydra.searchpath={entry}")
        self._folders = [config_folder()]
        if config_dir is not None:
            self._search_in(config_dir)
        self._check_root()
        for override in filter(_is_searchpath, self._hydra):
            self._folders += [Path(str(entry).removeprefix("file://")) for entry in override.value()]  # type: ignore[union-attr]
        for override in self._hydra:
            if not override.key_or_group.replace("/", ".").startswith(_OF_HYDRA):
                raise InputError(
                    f"{_word(override)}: not supported, as Forethought runs cells itself; expected one of "
                    f"{', '.join(_OF_HYDRA)}"
                )

    def _search_in(self, config_dir: str) -> None:
        """Find choices and the root config in a further folder, too."""
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise InputError(f"--config-dir={config_dir}: no such folder")
        self._refuse_shadowed(str(folder), f"--config-dir={config_dir}")
        self.flags.append(f"--config-dir={folder}")
        self._folders.append(Path(config_dir))
        # Not by hydra.searchpath: Hydra reads it in the root config, and so cannot find the root by it.
        path = self._loader.get_search_path()
        path.prepend("command-line", f"file://{folder}", "schema")
        self._loader.repository.initialize_sources(path)

    def _check_root(self) -> None:
        paths = [folder / f"{self.config_name.removesuffix('.yaml')}.yaml" for folder in self._folders]
        if not any(path.is_file() for path in paths):
            raise InputError(
                f"--config-name={self.config_name}: no such file; use one in conf or --config-dir"
            )
        if broken := find_broken_yaml(paths[1:]):
            raise broken

    def _given_entries(self) -> list[str]:
        values = [override.value() for override in filter(_is_searchpath, self._hydra)]
        return [str(entry) for entries in values if isinstance(entries, list) for entry in entries]

    def _refuse_shadowed(self, entry: str, word: str) -> None:
        """Check an entry of the search path, which Hydra reads only where Forethought has no such file.

        Raises:
            InputError: a file in it differs from Forethought's or Hydra's file of this name.
        """
        scheme, _, place = entry.rpartition("://")
        try:
            folder = Path(str(files(place.replace("/", ".")))) if scheme == "pkg" else Path(place)
        except (ImportError, TypeError):
            return  # Hydra warns of it
        for path in sorted(folder.glob("**/*.yaml")):
            name = path.relative_to(folder)
            group = "" if name.parent == Path() else name.parent.as_posix()
            if name.stem not in self._loader.get_group_options(group):
                continue
            own = config_folder() / name
            if not (own.is_file() and own.read_bytes() == path.read_bytes()):
                raise InputError(f"{word}: {name} has the name of a file of Forethought; rename it")

    def _parse(self, words: Sequence[str]) -> list[Override]:
        for word in words:
            if not word.partition("=")[0].strip():
                shown = word if word.strip() else repr(word)
                raise InputError(f"{shown}: cannot be read; expected KEY=VALUE")
        try:
            return OverridesParser.create(self._loader).parse_overrides(list(words))
        except HydraException as error:
            raise explain_hydra(error) from None

    @cached_property
    def shared(self) -> DictConfig:
        """The config that all cells of a sweep share, with Hydra's node and the default of each swept key.

        Raises:
            InputError: it does not compose.
        """
        words = [o for o in self._own if not o.is_sweep_override()]
        # A key of a group that only an experiment sweeps may be missing here.
        config = self._compose(words, _AbsentKeys({o.key_or_group.split(".")[0] for o in words}))
        if self.is_sweep and self.folder is not None:
            config.hydra.sweep.dir = str(self.folder)
        return config

    @property
    def launcher(self) -> dict[str, Any]:
        """The options of the launcher, with its `_target_`."""
        return self._resolved(self.shared.hydra.launcher)

    @property
    def search(self) -> dict[str, Any] | None:
        """The options of a search, with its `_target_`; None for a grid."""
        node = self._resolved(self.shared.hydra.sweeper)
        return None if str(node["_target_"]).endswith(".BasicSweeper") else node

    @property
    def sweep_folder(self) -> Path:
        return Path(str(self.shared.hydra.sweep.dir))

    def _resolved(self, node: Any) -> dict[str, Any]:
        with _explained():
            options: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
        return options

    def _as_written(self, name: str) -> Any:
        """Return an option of the sweeper with its interpolations: `${seed}` is the seed of each cell.

        Hydra resolves them once, in the config that all cells share.
        """
        options: Any = OmegaConf.to_container(self.shared.hydra.sweeper, resolve=False)
        return options.get(name)

    def cells(self) -> list[Cell]:
        """Compose the cells of this command line, each once.

        Raises:
            InputError: one of them does not compose.
        """
        if not self.is_sweep:
            return [self._cell(_single_values(self._own))]
        products = self._products()
        with _explained():
            values = [[[*_values(override)] for override in product] for product in products]
        self._absent = _AbsentKeys(self._swept_groups(*products))
        cells = [self.cell(words) for product in values for words in itertools.product(*product)]
        self._absent.refuse_keys_that_none_has()
        sweeps = sorted({str(cell.folder.parent) for cell in cells})
        if len(sweeps) > 1:
            raise InputError(f"sweep: cells would lie in {', '.join(sweeps)}; use one folder")
        return _each_once(cells)

    def swept(self) -> list[Override]:
        """Return the overrides of the sweep: those of an experiment file, then those of the command line."""
        return self._swept({}, self._own)

    def _swept(self, row: dict[str, Any], own: list[Override]) -> list[Override]:
        params = self._as_written("params") or {}
        given = {o.key_or_group for o in own}
        values = {key: "null" if value is None else value for key, value in (params | row).items()}
        extra = [f"{key}={value}" for key, value in values.items() if key not in given]
        return [*self._parse(extra), *own]

    def _products(self) -> list[list[Override]]:
        """Return the overrides of each product of values: one, or one for each row of an experiment file.

        A choice on the command line, such as `objective=next_token`, selects the rows that have it. A value,
        such as `max_steps=100`, replaces that of the rows.

        Raises:
            InputError: no row has the choice.
        """
        rows = self._as_written("rows")
        if not rows:
            return [self.swept()]
        products = []
        offered: dict[str, set[str]] = {}
        for row in rows:
            own: list[Override] = []
            for override in self._own:
                group = override.key_or_group
                if not (self._is_group(group) and group in row):
                    own.append(override)
                    continue
                (of_row,) = self._parse([f"{group}={row[group]}"])
                offered.setdefault(group, set()).update(_choices(of_row))
                if common := [choice for choice in _choices(of_row) if choice in _choices(override)]:
                    own += self._parse([f"{group}={','.join(common)}"])
            if len(own) == len(self._own):
                products.append(self._swept(row, own))
        if not products:
            given = " ".join(_word(o) for o in self._own if o.key_or_group in offered)
            accepted = "; ".join(f"{group}={','.join(sorted(offered[group]))}" for group in offered)
            raise InputError(f"{given}: no row of the experiment has it; expected {accepted}")
        return products

    def search_space(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return the distribution to search for each swept key: its name in Optuna, and its arguments.

        `a,b` and `range(…)` are categorical, `interval(…)` is an interval of floats and `int(interval(…))` of
        integers; `tag(log, …)` makes an interval logarithmic.

        Raises:
            InputError: a choice of a swept group does not compose, or no choice has one of the keys.
        """
        overrides = self.swept()
        self._absent = _AbsentKeys(self._swept_groups(overrides))
        values = [
            [*_values(o)]
            if o.key_or_group in self._absent.groups or not o.is_sweep_override()
            else [f"{o.key_or_group}=null"]
            for o in overrides
        ]
        for words in itertools.product(*values):
            self._compose(self._parse(words), self._absent)
        self._absent.refuse_keys_that_none_has()
        space: dict[str, tuple[str, dict[str, Any]]] = {}
        for override in filter(Override.is_sweep_override, overrides):
            sweep, key = override.value(), override.key_or_group
            if isinstance(sweep, IntervalSweep):
                whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
                bounds = {"low": sweep.start, "high": sweep.end, "log": "log" in sweep.tags}
                space[key] = ("IntDistribution" if whole else "FloatDistribution", bounds)
            else:
                space[key] = ("CategoricalDistribution", {"choices": [*override.sweep_iterator()]})
        return space

    def fixed_words(self) -> list[str]:
        """Return the words that all trials of a search share."""
        return [_word(o) for o in self.swept() if not o.is_sweep_override()]

    def cell(self, words: Sequence[str]) -> Cell:
        """Compose one cell of a sweep.

        Raises:
            InputError: it does not compose, or a word has several values.
        """
        return self._cell(_single_values(self._parse(words)))

    def _cell(self, overrides: list[Override]) -> Cell:
        absent = self._absent
        config = self._compose(overrides, absent)
        node = config.hydra
        if absent is not None:
            keys = {o.key_or_group for o in overrides}
            if ignored := [key for key in node.sweeper.get("params") or () if key not in keys]:
                raise InputError(
                    f"experiment={node.runtime.choices.experiment}: sweeps {', '.join(ignored)} itself; "
                    f"sweep one experiment at a time, or use {ignored[0]}=VALUES"
                )
            if node.sweeper.get("rows") and not self.shared.hydra.sweeper.get("rows"):
                raise InputError(
                    f"experiment={node.runtime.choices.experiment}: has rows; sweep one experiment at a time"
                )
            overrides = [
                o for o in overrides if not (self._sets_value(o) and absent.skips(config, o.key_or_group))
            ]
        choices = {str(group): str(node.runtime.choices[group]) for group in node.runtime.choices}
        choices = {group: choice for group, choice in choices.items() if "hydra" not in group}
        with _explained(lambda error: self._explain_other(error, overrides)), _as_hydra_config(config):
            name = cell_name(_plain(config, NOT_IDENTITY), choices)
            node.runtime.output_dir = str(self._folder_of(config, name))
            values = _plain(config)
        own = [_word(o) for o in overrides]
        hydra_words = [_word(o) for o in self._hydra if o.key_or_group not in _FOLDERS]
        return Cell(
            name=name,
            sweep=values.get("sweep") if self.is_sweep else None,
            choices=choices,
            overrides=own,
            words=[*self.flags, *hydra_words, *own],
            config=values,
            folder=Path(node.runtime.output_dir),
        )

    def _folder_of(self, config: DictConfig, name: str) -> Path:
        """Return the folder of a cell."""
        node = config.hydra
        kind = "sweep" if self.is_sweep else "run"
        if self.folder is not None:
            return self.folder / name if self.is_sweep else self.folder
        if not node[kind].dir:
            raise InputError(f"hydra.{kind}.dir=: expected the path of a folder")
        if not self.is_sweep:
            return Path(node.run.dir)
        if node.sweep.subdir != name:
            raise InputError(f"hydra.sweep.subdir={node.sweep.subdir}: not supported; it is the cell's name")
        return Path(node.sweep.dir, name)

    def _compose(self, overrides: list[Override], absent: _AbsentKeys | None = None) -> DictConfig:
        """Compose the config of these overrides.

        Finding and merging YAML files takes Hydra some 60 ms, setting a value in the result under 1 ms. So
        cells that differ in values alone share what Hydra composed.
        """
        files = tuple(_word(o) for o in overrides if not self._sets_value(o))
        with _explained(lambda error: self._explain_other(error, overrides)):
            if files not in self._bases:
                words = [*map(_word, self._hydra), *files]
                composed = compose(self.config_name, words, return_hydra_config=True)
                OmegaConf.set_readonly(composed.hydra, False)
                composed.hydra.runtime.cwd = os.getcwd()
                if composed.hydra.job.chdir:
                    raise InputError("hydra.job.chdir=true: not supported; paths are relative to this folder")
                self._check_choices(composed)
                if "experiment" in composed:
                    choice = composed.hydra.runtime.choices.experiment
                    broken = find_broken_yaml(
                        folder / f"experiment/{choice}.yaml" for folder in self._folders
                    )
                    raise broken or InputError(f"experiment={choice}: {NO_PACKAGE}")
                self._bases[files] = pickle.dumps(composed)
            config: DictConfig = pickle.loads(self._bases[files])
            for override in overrides:
                if not self._sets_value(override):
                    continue
                key, value = override.key_or_group, override.value()
                is_new = override.is_force_add()
                if not is_new and absent is not None and absent.lacks(config, key):
                    continue
                is_new |= key.split(".")[0] in _OPEN
                OmegaConf.update(config, key, value, merge=True, force_add=is_new)
        return config

    def _check_choices(self, composed: DictConfig) -> None:
        """
        Raises:
            InputError: a file says nothing of what is to be constructed: it is empty, a list, or without
                `_target_`.
        """
        for group, choice in composed.hydra.runtime.choices.items():
            key, names_nodes = group.replace("/", "."), group == "callbacks"
            if group not in _CONSTRUCTED and not names_nodes:
                continue
            node = OmegaConf.select(composed, key)
            if OmegaConf.is_dict(node) and ("_target_" in list(node)) != names_nodes:
                continue
            paths = [folder / f"{group}/{choice}.yaml" for folder in self._folders]
            path = next(filter(Path.is_file, paths), None)
            target = "_target_: package.module.Class"
            raise (path and find_broken_yaml([path])) or InputError(
                f"{path or f'{group}={choice}'}: expected a mapping with "
                + (f"NAME: {{{target}}} for each" if names_nodes else target)
            )

    def _sets_value(self, override: Override) -> bool:
        """Tell values from choices of files, by Hydra's rule for what it applies after composing."""
        changes = (OverrideType.CHANGE, OverrideType.FORCE_ADD)
        if override.type not in changes or override.package is not None:
            return False
        return isinstance(override.value(), dict) or not self._is_group(override.key_or_group)

    def _swept_groups(self, *products: list[Override]) -> set[str]:
        """Return the groups of which the sweep has several choices."""
        choices: dict[str, set[str]] = {}
        for override in itertools.chain(*products):
            if self._is_group(override.key_or_group):
                choices.setdefault(override.key_or_group, set()).update(_choices(override))
        return {group for group, names in choices.items() if len(names) > 1}

    def _explain_other(self, error: Exception, overrides: list[Override]) -> InputError | None:
        """Explain an exception that does not name its cause: a broken file, or a group without a name."""
        overrides = [*self._hydra, *overrides]
        for o in overrides:
            options = self._loader.get_group_options(o.key_or_group)
            if options and not isinstance(o.value(), str | list | dict):
                return InputError(f"{_word(o)}: expected the name of a config, one of {', '.join(options)}")
        chosen = [f"{o.key_or_group}/{o.value()}.yaml" for o in overrides]
        paths = [folder / name for name in chosen for folder in self._folders]
        # A file that another one chooses.
        paths += self._folders * isinstance(error.__cause__ or error, UnicodeDecodeError | GrammarParseError)
        if broken := find_broken_yaml(paths):
            return broken
        words = " ".join(_word(o) for o in overrides)
        return InputError(f"{words}: cannot be composed ({error})") if isinstance(error, ValueError) else None


_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")  # a resume goes by where the files lie


class _AbsentKeys:
    """Keys that only some of the swept choices of a group have, such as `objective.horizon`.

    Such a key applies to the choices that have it.
    """

    def __init__(self, groups: set[str]) -> None:
        self.groups = groups
        self.choices: dict[str, set[str]] = {}
        self.accepted: dict[str, set[str]] = {}
        self.applied: set[str] = set()

    def skips(self, config: DictConfig, key: str) -> bool:
        return key.split(".")[0] in self.groups and "." in key and not _has(config, key)

    def lacks(self, config: DictConfig, key: str) -> bool:
        """Note whether this config has the key. Return True if not."""
        if not self.skips(config, key):
            self.applied.add(key)
            return False
        group, parent = key.split(".")[0], OmegaConf.select(config, key.rpartition(".")[0])
        self.choices.setdefault(key, set()).add(str(config.hydra.runtime.choices[group]))
        keys = {str(name) for name in parent or () if name not in HIDDEN}
        self.accepted.setdefault(key, set()).update(keys)
        return True

    def refuse_keys_that_none_has(self) -> None:
        """Check that every key applies to some choice.

        Raises:
            InputError: a key that none of the swept choices has; the message names them.
        """
        for key in self.choices.keys() - self.applied:
            group, last = key.split(".")[0], key.rpartition(".")[2]
            choices = ",".join(sorted(self.choices[key]))
            accepted = expected_one_of(sorted(self.accepted[key]), last)
            raise InputError(f"{key}: no such key in {group}={choices}; {accepted}")


def _has(config: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    return OmegaConf.is_dict(node) and last in list(node)  # a missing value (???) counts as a key


def _is_searchpath(override: Override) -> bool:
    return bool(override.key_or_group == "hydra.searchpath")


def _word(override: Override) -> str:
    return str(override.input_line)


def _single_values(overrides: list[Override]) -> list[Override]:
    for override in filter(Override.is_sweep_override, overrides):
        raise InputError(f"{_word(override)}: several values; use one, or -m for a sweep over them")
    return overrides


def _choices(override: Override) -> list[str]:
    """Return the names that an override of a group chooses, each a value of its own."""
    return [
        str(name)
        for name in ([*override.sweep_iterator()] if override.is_sweep_override() else [override.value()])
    ]


def _values(override: Override) -> Iterator[str]:
    """Yield KEY=VALUE for each value of an override."""
    key = _word(override).partition("=")[0]
    if not override.is_sweep_override():
        yield _word(override)
        return
    if isinstance(override.value(), IntervalSweep):
        raise InputError(f"{_word(override)}: requires hydra/sweeper=optuna; use values, as in 1,2,3")
    try:
        values = [*override.sweep_string_iterator()]
    except (ValueError, TypeError, HydraException) as error:
        raise InputError(f"{_word(override)}: {error}; expected values, such as 1,2,3") from None
    if not values:
        raise InputError(f"{_word(override)}: no values; use at least one")
    yield from (f"{key}={value}" for value in values)


def _plain(config: DictConfig, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the config as resolved nested dicts and lists, without Hydra's own node."""

    def resolved(value: Any) -> Any:
        nested = OmegaConf.is_config(value)
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if nested else value

    return {str(key): resolved(config[key]) for key in config if key not in {"hydra", *without}}


# `${cell:}` in hydra.run.dir and hydra.sweep.subdir.
OmegaConf.register_new_resolver(
    "cell",
    lambda *, _root_: cell_name(
        _plain(_root_, NOT_IDENTITY), {str(k): str(v) for k, v in _root_.hydra.runtime.choices.items()}
    ),
    replace=True,
)


def _each_once(cells: list[Cell]) -> list[Cell]:
    """Drop repeated cells.

    Raises:
        InputError: cells differ in keys that are not part of their identity, such as `hardware`.
    """
    unique: dict[str, Cell] = {}
    for cell in cells:
        if unique.setdefault(cell.name, cell).config != cell.config:
            words = sorted({*cell.overrides} ^ {*unique[cell.name].overrides})
            raise InputError(
                f"{', '.join(words)}: select the same run, {cell.name}; use one value, or a different "
                "sweep=NAME for each"
            )
    return list(unique.values())


@contextmanager
def _as_hydra_config(config: DictConfig) -> Iterator[None]:
    """Resolve `${hydra:…}` by this config in the block alone: Lightning's DDP looks there, too."""
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    try:
        yield
    finally:
        HydraConfig.instance().cfg = None


@contextmanager
def _explained(of_other: Callable[[Exception], InputError | None] = lambda error: None) -> Iterator[None]:
    """Raise what Hydra, OmegaConf and the YAML parser report as one line.

    Args:
        of_other: explains an exception of another class, or an interpolation that cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    except YAMLError as error:
        raise explain_yaml(error) from None
    except (HydraException, OmegaConfBaseException) as error:
        in_file = isinstance(error.__cause__ or error, GrammarParseError) and of_other(error)
        raise in_file or explain_hydra(error) from None
    except Exception as error:
        if explained := of_other(error):
            raise explained from None
        raise
