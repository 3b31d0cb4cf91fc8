"""The folder of the YAML files. Outside the room `config`, as it is found without Hydra."""

from pathlib import Path


def config_folder() -> Path:
    """Return conf/: inside the package where it is installed, beside src/ in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def list_choices() -> dict[str, list[str]]:
    """Return the choices of every config group in conf/, by the names of the YAML files.

    Only Hydra has groups in a folder of groups; elsewhere, a folder in a group is a part of the name, as in
    `experiment=top2025/table5`.
    """
    choices: dict[str, list[str]] = {}
    folder = config_folder()
    for path in sorted(folder.glob("*/**/*.yaml")):
        parts = path.relative_to(folder).with_suffix("").parts
        depth = 2 if parts[0] == "hydra" else 1
        choices.setdefault("/".join(parts[:depth]), []).append("/".join(parts[depth:]))
    return choices
