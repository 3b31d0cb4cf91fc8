"""The folder of the YAML files. Outside the room `config`, as it is found without Hydra."""

from pathlib import Path


def config_folder() -> Path:
    """Return conf/: inside the package where it is installed, beside src/ in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def list_choices() -> dict[str, list[str]]:
    """Return the choices of every config group in conf/, by the names of the YAML files."""
    choices: dict[str, list[str]] = {}
    folder = config_folder()
    for path in sorted(folder.glob("*/**/*.yaml")):
        choices.setdefault(str(path.parent.relative_to(folder)), []).append(path.stem)
    return choices
