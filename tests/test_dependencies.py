"""What the project imports is what it declares, no more and no less."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"vidtrack", "pretrain"}


def names(requirements: list[str]) -> set[str]:
    """Distributions, normalised as the Python packaging guide says."""
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", match.group()).lower() for match in found if match}


def imported(folder: Path) -> set[str]:
    """Top-level modules that a package imports, wherever in its files, by name or by `import_module`."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "import_module":
                found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    tops = {name.split(".")[0] for name in found}
    return tops - set(sys.stdlib_module_names) - OWN


@pytest.fixture(scope="module")
def used() -> set[str]:
    """The distributions that vidtrack and pretrain import from."""
    providers = packages_distributions()
    modules = set().union(*(imported(ROOT / package) for package in OWN))
    unknown = {module for module in modules if module not in providers}
    assert not unknown, f"not installed: {unknown}"
    return names([name for module in modules for name in providers[module]])


def test_every_dependency_is_imported(used: set[str]) -> None:
    extras = DECLARED["optional-dependencies"]
    offered = names([name for extra in set(extras) - {"test"} for name in extras[extra]])
    assert names(DECLARED["dependencies"]) | offered == used, "declared and imported differ"


def test_what_users_install_is_in_what_tests_install() -> None:
    extras = DECLARED["optional-dependencies"]
    for extra in set(extras) - {"test"}:
        assert names(extras[extra]) <= names(extras["test"]), extra
