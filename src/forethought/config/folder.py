"""The folder of the YAML files."""

from pathlib import Path


def config_folder() -> Path:
    """Return conf/: inside the package where it is installed, beside src/ in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"
