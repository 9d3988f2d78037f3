"""Settings on a real builder: what was asked for is what TensorRT-RTX has afterwards, or an error says it is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engine_models as models
import pytest
from engine_models import needs_rtx

from prunec.deploy.tensorrt import config, messages, network
from prunec.deploy.tensorrt.package import PACKAGES
from prunec.errors import BackendError

pytestmark = needs_rtx
TENSORRT = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")  # which knows no targets


class Made:
    """A builder with a network of one convolution, and what must live as long."""

    def __init__(self, folder: Path) -> None:
        self.trt = PACKAGES["tensorrt-rtx"].load()
        self.log = messages.logger(self.trt)
        self.builder = self.trt.Builder(self.log)
        self.network = network.create(self.trt, self.builder, weak=False)
        model = models.one_conv(folder).read_bytes()
        self.parser = network.parse(self.trt, self.network, self.log, model, None)

    def configure(self, **given: Any) -> Any:
        settings = models.settings("tensorrt-rtx", **{"profile": "1/2/4", **given})
        return config.configure(self.trt, self.builder, self.network, settings)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_what_is_asked_for_is_set(made: Made) -> None:
    found = made.configure(sms="86,120", workspace_mb=64, level=2, flags=("strict-nans",), cleared_flags=("tf32",))
    trt = made.trt
    assert found.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert found.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert found.builder_optimization_level == 2
    assert config.flags_set(trt, found) == ["STRICT_NANS"]
    capabilities = [found.get_compute_capability(place) for place in range(found.num_compute_capabilities)]
    assert capabilities == [trt.ComputeCapability.SM86, trt.ComputeCapability.SM120]
    assert found.num_optimization_profiles == 1


def test_what_is_silently_not_taken_is_an_error(made: Made) -> None:
    with pytest.raises(BackendError, match="does not take hardware compatibility AMPERE_PLUS here"):
        made.configure(hardware="ampere-plus")


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")  # the caches work there, and change nothing
def test_timings_go_from_one_build_to_the_next(made: Made) -> None:
    first, second, third = (made.configure() for _ in range(3))
    assert config.share_timings(TENSORRT, first, b"")
    data = config.timings(first)
    assert config.share_timings(TENSORRT, second, data)
    assert config.timings(second) == data
    assert config.share_timings(TENSORRT, third, b"torn")  # starts anew
    assert len(config.timings(third)) == len(data)
    assert not config.share_timings(made.trt, first, b"")  # RTX picks kernels at run time


def test_what_tensorrt_refuses() -> None:
    which = PACKAGES["tensorrt"]
    plain = models.settings("tensorrt")
    for settings, present, said in (
        (plain, None, "there is no NVIDIA driver or GPU here"),
        (models.settings("tensorrt", sms="86"), "89", "builds for the GPU here, an SM89, and not for SM86"),
    ):
        with pytest.raises(BackendError, match=said):
            config.check(TENSORRT, which, settings, present)
    config.check(TENSORRT, which, models.settings("tensorrt", sms="86", hardware="ampere-plus"), "89")
    config.check(TENSORRT, which, models.settings("tensorrt", sms="89", weak_typing=True), "89")
    newer = SimpleNamespace(__name__="tensorrt", __version__="10.12.0")
    with pytest.raises(BackendError, match=r"tensorrt 10\.0 to 10\.11 alone, and this is tensorrt 10\.12\.0"):
        config.check(newer, which, models.settings("tensorrt", weak_typing=True), "89")
