"""Engines and timings on disk: two writers lose nothing, what has changed is not used, what was there stays."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from prunec.deploy.tensorrt import store
from prunec.deploy.tensorrt.store import Cache, Engine
from prunec.errors import BackendError, DataError, PrunecWarning


def engine(plan: bytes) -> Engine:
    record = {"package": "tensorrt", "version": "10", "sha256": hashlib.sha256(plan).hexdigest()}
    return Engine(plan, {**record, "settings": {"profile": None}})


def many(folder: Path, mine: bytes) -> None:
    """Keep and find engines whose bytes differ by process, as those of TensorRT may."""
    cache = Cache(folder)
    for round_ in range(20):
        name = f"key{round_ % 3}"
        cache.keep(name, engine(mine * 5000))
        found = cache.find(name)
        assert found is not None
        assert set(found.plan) in ({ord("a")}, {ord("b")})
        cache.keep_timings("shared", mine * 5000)
        assert len(cache.timings("shared")) == 5000


def test_two_processes_that_keep_the_same_engine_never_fail(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=many, args=(tmp_path, mine)) for mine in (b"a", b"b")]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert [each.exitcode for each in workers] == [0, 0]
    assert not list(tmp_path.rglob(".prunec-*"))


def test_what_another_process_has_kept_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep("key", engine(b"first"))
    cache.keep("key", engine(b"second"))
    found = cache.find("key")
    assert found is not None
    assert found.plan == b"first"


@pytest.mark.parametrize("broken", ["key.engine", "key.engine.json"])
def test_one_changed_byte_is_not_used_and_is_written_over(tmp_path: Path, broken: str) -> None:
    cache = Cache(tmp_path)
    cache.keep("key", engine(b"first"))
    path = tmp_path / "engines" / broken
    path.write_bytes(path.read_bytes().replace(b"10", b"11").replace(b"first", b"firsu"))
    assert cache.find("key") is None
    cache.keep("key", engine(b"second"))
    found = cache.find("key")
    assert found is not None
    assert found.plan == b"second"


@pytest.mark.parametrize("fails", ["write_json", "write_bytes"])
def test_a_disk_that_refuses_leaves_the_engine_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path, cache = tmp_path / "net.engine", Cache(tmp_path)
    store.save(engine(b"old"), path)
    write = getattr(store, fails)

    def full(where: Path, data: object) -> None:
        if data == b"new" or fails == "write_json":
            raise DataError("the disk is full")
        write(where, data)

    monkeypatch.setattr(store, fails, full)
    with pytest.raises(DataError, match="full"):
        store.save(engine(b"new"), path)
    assert store.load(path).plan == b"old"
    with pytest.warns(PrunecWarning, match="not kept for the next build: the disk is full"):
        cache.keep("key", engine(b"new"))
    assert cache.find("key") is None


def test_timings_that_have_changed_are_measured_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.timings("shared") == b""
    cache.keep_timings("shared", b"measured")
    assert cache.timings("shared") == b"measured"
    path = tmp_path / "engines" / "shared.timings"
    for data in (path.read_bytes()[:-1], b"", b"measured"):
        path.write_bytes(data)
        assert cache.timings("shared") == b""


def test_a_record_that_is_no_record_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "net.engine"
    store.save(engine(b"plan"), path)
    store.record_path(path).write_text("[]")
    with pytest.raises(BackendError, match="is no record of prunec's"):
        store.load(path)
