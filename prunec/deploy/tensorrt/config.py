"""Convert settings to TensorRT's builder configuration, by name.

A name that a version lacks is an error.
"""

from __future__ import annotations

from typing import Any

from ...errors import BackendError
from .package import LAST_WEAK, Package, version_of
from .settings import HARDWARE, Profile, Settings


def check(trt: Any, package: Package, settings: Settings, present: str | None) -> None:
    """Raise BackendError for settings that this package, version or GPU cannot serve."""
    named = f"{package.module} {trt.__version__}"
    if settings.weak_typing and (package.ahead_of_time or version_of(trt) > LAST_WEAK):
        raise BackendError(
            f"--weak-typing is for tensorrt 10.0 to 10.11 alone, and this is {named}: leave it out, and put the"
            " precision into the ONNX file (prunec cast, prunec quantize)"
        )
    if package.ahead_of_time:
        known = targets(trt)
        wrong = [name for name in settings.targets if name not in known]
        if wrong:
            raise BackendError(f"SM{wrong[0]} is no target of {named}, which builds for SM{', SM'.join(known)}")
        if settings.hardware:
            raise BackendError(f"{named} takes the GPUs by --sm; leave out --hardware-compatible")
        return
    if present is None:
        raise BackendError(
            f"{named} builds on the GPU that the engine is for, and there is no NVIDIA driver or GPU here; on a"
            " machine without one build with --backend tensorrt-rtx"
        )
    if settings.targets and settings.targets != (present,) and not settings.hardware:
        raise BackendError(
            f"{named} builds for the GPU here, an SM{present}, and not for SM{', SM'.join(settings.targets)}: leave"
            " --sm out, build there, or add --hardware-compatible ampere-plus"
        )


def targets(trt: Any) -> tuple[str, ...]:
    """Return the compute capabilities of ahead-of-time builds: ('75', '80', …)."""
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return tuple(sorted((name.removeprefix("SM") for name in names), key=int))


def configure(trt: Any, builder: Any, network: Any, settings: Settings) -> Any:
    """Return a builder configuration with the flags, the GPUs and the batch sizes."""
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    if settings.level is not None:
        config.builder_optimization_level = settings.level
    if settings.hardware is not None:
        _set_hardware(trt, config, HARDWARE[settings.hardware])
    for name in (*settings.flags, *_weak_flags(settings)):
        config.set_flag(member(trt, "BuilderFlag", name))
    for name in settings.cleared_flags:
        config.clear_flag(member(trt, "BuilderFlag", name))
    if settings.targets and hasattr(trt, "ComputeCapability"):
        config.num_compute_capabilities = len(settings.targets)
        for place, name in enumerate(settings.targets):
            config.set_compute_capability(member(trt, "ComputeCapability", f"SM{name}"), place)
    if settings.profile is not None:
        _add_profile(builder, network, config, settings.profile)
    return config


def flags_set(trt: Any, config: Any) -> list[str]:
    """Return the names of the builder flags that are on."""
    return sorted(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag))


def share_timings(trt: Any, config: Any, data: bytes) -> bool:
    """Start from the timings of another engine's build, so that both are tuned alike.

    Return whether that was done: RTX picks its kernels at run time and has none. TensorRT refuses timings of another
    GPU or version; they are started anew.
    """
    if hasattr(trt, "ComputeCapability"):
        return False
    cache = config.create_timing_cache(data)
    if not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return True


def timings(config: Any) -> bytes:
    """Return the timings after a build."""
    return bytes(config.get_timing_cache().serialize())


def member(trt: Any, enum: str, name: str) -> Any:
    """Return a member of an enum by name. Raises BackendError if this version has none."""
    members = getattr(trt, enum).__members__
    if name in members:
        return members[name]
    raise BackendError(f"{trt.__name__} {trt.__version__} has no {enum}.{name}, only {', '.join(sorted(members))}")


def _set_hardware(trt: Any, config: Any, name: str) -> None:
    """Set the level. Raises BackendError if TensorRT silently rejects it."""
    level = member(trt, "HardwareCompatibilityLevel", name)
    config.hardware_compatibility_level = level
    if config.hardware_compatibility_level != level:
        raise BackendError(f"{trt.__name__} {trt.__version__} does not take hardware compatibility {name} here")


def _weak_flags(settings: Settings) -> tuple[str, ...]:
    """Return the precision flag, used with weak typing only."""
    wanted = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}.get(settings.precision or "")
    return (wanted,) if settings.weak_typing and wanted else ()


def _add_profile(builder: Any, network: Any, config: Any, profile: Profile) -> None:
    """Add the batch sizes of every input with a dynamic batch."""
    shapes = builder.create_optimization_profile()
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        first, *rest = tensor.shape
        if first == -1:
            shapes.set_shape(tensor.name, *((batch, *rest) for batch in (profile.least, profile.best, profile.most)))
    if config.add_optimization_profile(shapes) < 0:
        raise BackendError(f"TensorRT refuses profile {profile} for this network; try a single batch, --profile 1")
