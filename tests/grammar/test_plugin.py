"""The example plug-in: built, installed in a folder of its own, found by its entry points, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "plugin"
USE = """
import json
import torch
from torch import nn
import prunec

torch.manual_seed(0)
body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()]
net = nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 4)).eval()
with torch.no_grad():
    net[0].weight[2] *= 0.01  # channels that the criterion has to remove first
    net[0].weight[5] *= 0.01
images = torch.randn(64, 3, 6, 6)
first = prunec.compress(net, images, target="params:0.5", selector="top{by=peak{power=2}}")
text = f"largest-weights{{top=1}},{first.report['pipeline']}"
result = prunec.compress(net, images, target="params:0.5", pipeline=text)
kept = result.module.state_dict()["0.weight"].abs().amax((1, 2, 3)).tolist()
print(json.dumps({"notes": result.report["notes"], "pipeline": result.report["pipeline"], "kept": kept}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example, from a copy, into a folder that is no environment."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, capture_output=True)
    return folder / "site"


def output(site: Path | None, *command: str) -> str:
    """Return what a Python prints that has the folder on its path."""
    path = os.pathsep.join(str(each) for each in (site, ROOT) if each)
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "160", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_list_names_what_is_installed_and_nothing_without_it(installed: Path) -> None:
    names = {line.split()[0] for line in output(installed, "-m", "prunec", "list").splitlines() if line.strip()}
    assert {"peak", "largest-weights"} <= names
    without = {line.split()[0] for line in output(None, "-m", "prunec", "list").splitlines() if line.strip()}
    assert names - without >= {"peak", "largest-weights"}


def test_the_criterion_and_the_pass_run(installed: Path) -> None:
    found = json.loads(output(installed, "-c", USE).splitlines()[-1])
    assert found["notes"]["largest-weights"] == {"2.weight": 16 * 8 * 9}
    assert "peak{power=2" in found["pipeline"]
    assert found["pipeline"].startswith("largest-weights{top=1}")
    assert 0 < len(found["kept"]) < 8
    assert min(found["kept"]) > 0.01  # of what stays; the two that are plainly small went first
