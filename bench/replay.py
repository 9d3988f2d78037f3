"""Compare two checkouts of prunec: the bytes of plan.json and model.onnx that each makes of the same networks.

    python bench/replay.py ../other                       # this checkout against another: 23 minutes of one core
    python bench/replay.py ../other --only 'micro:*'      # some of them; names are those of --list
    python bench/replay.py --check                        # against the hashes in results/replay.json: half of that
    python bench/replay.py --check --quick                # three small networks: what the tests do, 22 seconds
    python bench/replay.py --record                       # after a change that is meant to move a plan

Each network is compressed with `prunec.compress(module, images, target="macs:0.5", align="none", seed=0)` and written
with `save`, in a fresh process with one thread whose only prunec is the checkout's. Networks and images are made by
this script alone, so a checkout whose modules lie elsewhere gets the same ones. Trained networks are those of the
shared data (--data); the others are networks of bench/architectures.py, narrower, with random weights and noise images.

Bytes depend on the processor and on the versions of torch and of the ONNX packages, so hashes are recorded for each
environment: --check compares with those of its own, and --record adds or replaces them. model.onnx holds the version of
prunec and the text of the pipeline: where plan.json is the same and they differ, look there first. No date, path or
commit is in either file.

Exit code: 0 all the same, 1 something differs or failed, 2 wrong usage, 77 nothing to compare with in this environment.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import json
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import torch
from replay_networks import NETWORKS, Network
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = ("plan.json", "model.onnx")
PACKAGES = "torch numpy onnx onnxscript onnx-graphsurgeon onnxruntime torchvision timm".split()
NOTHING = 77  # the exit code for a check that was skipped
Hashes = dict[str, str]


def replayed(network: Network, checkout: pathlib.Path, data: pathlib.Path) -> Hashes:
    """Compress a network in a fresh process; return file → sha256, or `failed` → why."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        command = [sys.executable, str(ROOT / "bench" / "replay_networks.py"),
                   network.name, str(checkout), str(data.resolve()), str(out)]  # fmt: skip
        run = subprocess.run(
            command, env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}, cwd=folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            return {"failed": (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]}
        return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}


def environment() -> dict[str, Any]:
    """Return the processor and the versions that bytes depend on, ready for JSON."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
        fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", text, re.MULTILINE))
        cpu = "{model name}, family {cpu family}, model {model}".format_map(fields) if len(fields) == 3 else cpu
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": cpu, "capability": capability, "system": platform.system(), "threads": 1, "packages": versions}


def recorded(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read the records of a file, one an environment; none where there is no file."""
    records: list[dict[str, Any]] = json.loads(path.read_text())["records"] if path.is_file() else []
    return records


def differences(wanted: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the entries in which two environments differ, as text."""
    flat = [{**each, **each["packages"]} for each in (wanted, here)]
    names = [name for name in {**flat[0], **flat[1]} if name != "packages" and flat[0].get(name) != flat[1].get(name)]
    return ", ".join(f"{name} {flat[0].get(name)} (here {flat[1].get(name)})" for name in names)


def hashes_for(path: pathlib.Path) -> dict[str, Hashes]:
    """Return the hashes that were recorded in this environment; print why where there are none."""
    records, here = recorded(path), environment()
    for each in records:
        if each["environment"] == here:
            hashes: dict[str, Hashes] = each["networks"]
            return hashes
    print(f"{path.name} holds no hashes of this environment; run this at a commit that is right, with --record")
    for each in records:
        print(f"recorded with {differences(each['environment'], here)}")
    return {}


def record(path: pathlib.Path, name: str, found: Hashes) -> None:
    """Write the hashes of a network into this environment's record; keep all others."""
    records, here = recorded(path), environment()
    if (mine := next((each for each in records if each["environment"] == here), None)) is None:
        records.append(mine := {"environment": here, "networks": {}})
    mine["networks"][name] = found
    document = {"command": "python bench/replay.py --record", "seed": 0, "records": records}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def compared(wanted: Hashes, found: Hashes) -> tuple[str, ...]:
    """Return `same`, `DIFFERS` or `failed` for each of the files."""
    if "failed" in {**wanted, **found}:
        return ("failed",) * len(FILES)
    return tuple("same" if wanted[name] == found[name] else "DIFFERS" for name in FILES)


def processor_seconds() -> float:
    """Return the processor time of all children that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def chosen(args: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Network]:
    """Return the requested networks that are available; print the others."""
    patterns = args.only.split(",") if args.only else ["*"]
    for pattern in patterns:
        if not fnmatch.filter([each.name for each in NETWORKS], pattern):
            parser.error(f"no network is called {pattern}; there are {' '.join(each.name for each in NETWORKS)}")
    asked = [each for each in NETWORKS if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in patterns)]
    asked = [each for each in asked if each.quick or not args.quick]
    lost = [each.name for each in asked if each.folder and not (args.data / each.folder).exists()]
    if lost:
        print(f"left out, for there are no shared networks and images at {args.data}: {' '.join(lost)}")
    return [each for each in asked if each.name not in lost]


def show(rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table with a row a network."""
    table = Table(title="same bytes?")
    for name in ("network", *FILES, *(f"sha256 of {name}" for name in FILES), "processor s"):
        table.add_column(name, justify="right" if name == "processor s" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)


def run(args: argparse.Namespace, checkout: pathlib.Path, networks: list[Network]) -> int:
    """Replay the networks as the arguments ask, and print a table; return the exit code."""
    known = hashes_for(args.check) if args.check else {}
    if known and (missing := [each.name for each in networks if each.name not in known]):
        print(f"left out, for {args.check.name} does not hold them: {' '.join(missing)}")
    networks = [each for each in networks if not args.check or each.name in known]
    rows, good = [], True
    for network in networks:
        before = processor_seconds()
        found = replayed(network, checkout, args.data)
        wanted = found if args.record else known.get(network.name) or replayed(network, ROOT, args.data)
        said = compared(wanted, found)
        good = good and set(said) == {"same"}
        if args.record and "failed" not in found:
            record(args.record, network.name, found)
            said = ("recorded",) * len(FILES)
        spent = f"{processor_seconds() - before:.0f}"
        why = "".join({f"; {each['failed']}": 1 for each in (wanted, found) if "failed" in each})
        print(f"{network.name}: {', '.join(said)} after {spent} s{why}", file=sys.stderr, flush=True)
        rows.append((network.name, *said, *(found.get(name, "-")[:12] for name in FILES), spent))
    if not rows:
        print("nothing was compared")
        return NOTHING
    show(rows)
    return 0 if good else 1


def main() -> int:
    """Replay, compare or record, print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = ROOT / "bench" / "results" / "replay.json"
    what = "the other checkout; with --check or --record the one to replay (default: this one)"
    parser.add_argument("checkout", nargs="?", type=pathlib.Path, metavar="CHECKOUT", help=what)
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--check", nargs="?", type=pathlib.Path, const=results, metavar="FILE", help="hashes to match")
    doing.add_argument("--record", nargs="?", type=pathlib.Path, const=results, metavar="FILE", help="hashes to write")
    doing.add_argument("--list", action="store_true", help="print the names of the networks")
    parser.add_argument("--only", metavar="NAME,...", help="some networks; a name may hold * and ?")
    parser.add_argument("--quick", action="store_true", help="three small networks with random weights")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="the shared data")
    args = parser.parse_args()
    if args.list:
        print("\n".join(each.name for each in NETWORKS))
        return 0
    if args.checkout is None and args.check is None and args.record is None:
        parser.error("give another CHECKOUT to compare with, or --check or --record")
    checkout = (args.checkout or ROOT).resolve()
    if not (checkout / "prunec" / "__init__.py").is_file():
        parser.error(f"{checkout} holds no prunec/__init__.py: give the root of a checkout")
    return run(args, checkout, chosen(args, parser))


if __name__ == "__main__":
    raise SystemExit(main())
