"""The wheel and the sdist hold exactly the tree, and never a top-level strategies or clients."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import source_rules as rules

PROJECT = tomllib.loads((rules.ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGE_FOLDERS = ("fedcircuit", *rules.OUTSIDE)


def run(*arguments: str | Path, cwd: Path) -> str:
    """What a command prints; its whole output is shown where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def copy_tree(target: Path, *, links: bool) -> Path:
    """A clone as it would be fetched, with or without its two symbolic links."""
    for path in rules.tree_files():
        source = rules.ROOT / path
        if source.is_symlink() and not links:
            continue
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / path, follow_symlinks=False)
    return target


def build_wheel(tree: Path, folder: Path) -> Path:
    run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "--wheel-dir", folder, tree, cwd=folder.parent,
    )  # fmt: skip
    (wheel,) = folder.glob("fedcircuit-*.whl")
    return wheel


def packed(wheel: Path) -> set[str]:
    """Files of the package in a wheel, metadata left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def expected() -> set[str]:
    """Files of the package in the tree, at the places where a wheel must have them."""
    files = set()
    for path in rules.tree_files():
        if path.parts[0] in PACKAGE_FOLDERS and not (rules.ROOT / path).is_symlink():
            inside = Path("fedcircuit") / path if path.parts[0] in rules.OUTSIDE else path
            files.add(inside.as_posix())
    return files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(copy_tree(folder / "tree", links=True), folder / "out")


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    assert packed(wheel) == expected()


@pytest.mark.slow
def test_the_wheel_does_not_depend_on_the_symbolic_links(wheel: Path, tmp_path: Path) -> None:
    plain = build_wheel(copy_tree(tmp_path / "tree", links=False), tmp_path / "out")
    assert packed(plain) == packed(wheel)


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree", links=True)
    run(
        sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, tree,
        cwd=tmp_path,
    )  # fmt: skip
    (archive,) = tmp_path.glob("fedcircuit-*.tar.gz")
    run(sys.executable, "-m", "tarfile", "--extract", archive, tmp_path, cwd=tmp_path)
    folder = archive.name.removesuffix(".tar.gz")
    for name in rules.OUTSIDE:
        assert (tmp_path / folder / name / "__init__.py").is_file()
    assert packed(build_wheel(tmp_path / folder, tmp_path / "out")) == packed(wheel)


@pytest.mark.slow
def test_an_installed_wheel_offers_its_parts_under_its_own_name_only(
    wheel: Path, tmp_path: Path
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site,
        "--disable-pip-version-check", wheel, cwd=elsewhere,
    )  # fmt: skip
    code = (
        "import sys, importlib\n"
        # the editable installation of the clone must not answer in the wheel's place
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
        "for name in ('fedcircuit', 'fedcircuit.strategies', 'fedcircuit.clients'):\n"
        "    print(importlib.import_module(name).__file__)\n"
        "for name in ('strategies', 'clients'):\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError:\n"
        "        print('no module', name)\n"
    )
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"
    assert run(sys.executable, "-c", code, cwd=elsewhere).splitlines() == [
        str(site / "fedcircuit" / "__init__.py"),
        str(site / "fedcircuit" / "strategies" / "__init__.py"),
        str(site / "fedcircuit" / "clients" / "__init__.py"),
        "no module strategies",
        "no module clients",
    ]
    assert (
        importlib.metadata.PathDistribution.at(next(site.glob("*.dist-info"))).version
        == (PROJECT["project"]["version"])
    )


@pytest.mark.parametrize("name", rules.OUTSIDE)
def test_the_bare_name_of_an_outer_folder_is_refused(name: str) -> None:
    code = f"import sys; sys.path.insert(0, '.'); import {name}"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=rules.ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert f"ImportError: this package is fedcircuit.{name}" in ran.stderr


IMPORT_NAMES = {
    "scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL", "mlflow-skinny": "mlflow",
}  # fmt: skip


def declared(*extras: str) -> set[str]:
    """Import names of the dependencies in pyproject.toml, with those of some extras."""
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        wanted += PROJECT["project"]["optional-dependencies"][extra]
    names = {distribution_name(requirement) for requirement in wanted}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def distribution_name(requirement: str) -> str:
    """Name of the distribution in a requirement, without extras and versions."""
    return requirement.split("[")[0].split(">")[0].split("=")[0].strip().lower()


def imported_libraries(source: str, *, lazily: bool) -> set[str]:
    roots = {name.split(".")[0] for _, name in rules.imported(source, lazily=lazily)}
    return roots - set(sys.stdlib_module_names) - {"fedcircuit"}


def test_every_library_imported_with_a_module_is_a_dependency() -> None:
    used = {
        root
        for source in rules.package_sources().values()
        for root in imported_libraries(source, lazily=False)
    }
    assert used - declared() == set()


def test_every_library_imported_late_is_a_dependency_or_an_extra() -> None:
    used = {
        root
        for source in rules.package_sources().values()
        for root in imported_libraries(source, lazily=True)
    }
    assert used - declared("data", "parquet", "trackers") == set()


def test_an_import_without_a_dependency_is_found() -> None:
    source = "import json\nimport captum.attr\ndef f():\n    import pyarrow\n"
    assert imported_libraries(source, lazily=False) - declared() == {"captum"}
    assert imported_libraries(source, lazily=True) - declared("parquet") == {"captum"}
