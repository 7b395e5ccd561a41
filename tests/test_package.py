"""The wheel holds everything, and runs outside the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vidtrack.tracker import BUNDLED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--quiet",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    names = zipfile.ZipFile(wheel).namelist()
    weights = [f"vidtrack/weights/{name}.safetensors" for name in BUNDLED]
    for name in (*weights, "vidtrack/configs/track/laptop.yaml"):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("MODEL_CARD.md") for name in names)
    assert not any(name.startswith("tests/") for name in names)
    return target


def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Outside the checkout and without network: the default weights beat both floors."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import vidtrack; print(vidtrack.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)
    done = subprocess.run(
        [sys.executable, "-m", "vidtrack.cli", "demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "vidtrack_demo"
    names = ["clip.mp4", "first_mask.png", "overlay.mp4", "picture.jpg", "results.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    rows = {row["tracker"]: row for row in json.loads((out / "results.json").read_text())["trackers"]}
    assert rows["default"]["J&F-Mean"] >= 0.85
    assert rows["copy"]["J&F-Mean"] <= 0.35
    assert "default" in done.stdout
