"""The house stands as drawn: floors, light imports, and public names that are what they say."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import geopov

PUBLIC = ["catalog", "features", "maps", "raster", "regression", "study", "survey", "testing", "tiles"]


def _imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import geopov", "import geopov.cli"])
def test_import_stays_light(statement: str) -> None:
    loaded = _imported_by(statement)
    assert not loaded & {"torch", "torchvision", "timm", "onnxruntime", "matplotlib", "sklearn"}


def test_a_command_starts_without_the_others() -> None:
    asked = "import sys, geopov.cli; sys.argv[1:] = ['maps', '--help']\ntry: geopov.cli.main()\nexcept SystemExit: pass"
    loaded = _imported_by(asked)
    assert "geopov.cli.maps" in loaded
    assert not loaded & {"geopov.cli.survey", "geopov.cli.regression", "geopov.survey", "geopov.regression"}


def test_a_misspelt_command_is_guessed() -> None:
    command = [sys.executable, "-m", "geopov", "tiels"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'tiles'" in done.stderr


@pytest.mark.parametrize("stage", ["tiles", "survey", "regression", "maps", "features", "study"])
def test_stages_do_without_torch(stage: str) -> None:
    assert "torch" not in _imported_by(f"import geopov.{stage}")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_once_and_are_described(name: str) -> None:
    module = importlib.import_module(f"geopov.{name}")
    exported = list(module.__all__)
    assert len(exported) == len(set(exported))
    for item in exported:
        value = getattr(module, item)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"geopov.{name}.{item} has no docstring"
            assert value.__module__.startswith("geopov."), f"geopov.{name}.{item} is not ours"


def test_lazy_names_resolve() -> None:
    for name in geopov.__all__:
        assert getattr(geopov, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = geopov.nothing


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages(geopov.__path__, "geopov."):
        if module.name != "geopov.__main__":
            importlib.import_module(module.name)


def test_no_file_outgrows_a_room() -> None:
    long = {
        path.name: lines
        for path in Path(geopov.__path__[0]).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 400
    }
    assert not long
