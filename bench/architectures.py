"""Networks of bench/coverage.py: each torchvision and timm family's smallest, random weights.

`name` or `name@size` of a square input; timm unless a prefix says otherwise: `tv:` torchvision, `backbone:` the
backbone and neck of one of its detection models, `video:` its video models, `cbam:` timm with that attention in every
block, `micro:` the networks of tests/micro.py.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

ROOT = pathlib.Path(__file__).resolve().parents[1]

CNN = """
    tv:alexnet@224 tv:vgg11_bn@224 tv:resnet18 tv:resnet50 tv:resnext50_32x4d tv:wide_resnet50_2 tv:densenet121
    tv:densenet201 tv:googlenet tv:inception_v3@160 tv:mobilenet_v2 tv:mobilenet_v3_small tv:mobilenet_v3_large
    tv:regnet_x_400mf tv:regnet_y_400mf tv:shufflenet_v2_x0_5 tv:squeezenet1_0 tv:squeezenet1_1 tv:mnasnet0_5
    tv:efficientnet_b0 tv:efficientnet_v2_s tv:convnext_tiny tv:fcn_resnet50 tv:deeplabv3_resnet50
    tv:deeplabv3_mobilenet_v3_large tv:lraspp_mobilenet_v3_large backbone:fasterrcnn_mobilenet_v3_large_fpn
    backbone:retinanet_resnet50_fpn backbone:fcos_resnet50_fpn backbone:ssdlite320_mobilenet_v3_large
    backbone:ssd300_vgg16@300 video:r3d_18 video:mc3_18 video:r2plus1d_18 video:s3d cspresnet50 darknet53
    res2net50_26w_4s resnest14d skresnet18 mixnet_s hardcorenas_a mobilenetv4_conv_small lcnet_050
    gc_efficientnetv2_rw_t rexnet_100 ghostnet_100 ghostnetv2_100 repghostnet_050 hrnet_w18_small dla34 dpn68
    ese_vovnet19b_dw vovnet39a selecsls42b tresnet_m@224 xception41 legacy_xception inception_v4@160
    inception_resnet_v2@160 nasnetalarge@331 pnasnet5large@331 ecaresnet26t eca_nfnet_l0 nf_resnet26 dm_nfnet_f0
    resnetv2_50 resnet50_gn regnetz_005 repvgg_a0 mobileone_s0 repvit_m0_9 starnet_s1 convmixer_768_32 convnext_atto
    convnextv2_atto inception_next_atto rdnet_tiny hgnet_tiny fasternet_t0 focalnet_tiny_srf mambaout_femto
    poolformer_s12 vgg11 lcnetv2_base cbam:resnet18 legacy_seresnet18 cspnext_tiny densenetblur121d
"""
HYBRID = """
    tv:maxvit_t@224 edgenext_xx_small@256 levit_128s@224 levit_conv_128s@224 mobilevit_xxs@256 mobilevitv2_050@256
    mobilenetv4_hybrid_medium@224 efficientformer_l1@224 efficientformerv2_s0@224 efficientvit_b0@224
    efficientvit_m0@224 fastvit_t8@256 tiny_vit_5m_224@224 coatnet_nano_cc_224@224 maxvit_nano_rw_256@256
    halonet26t@256 botnet26t_256@256 lambda_resnet26t@256 bat_resnext26ts@256 visformer_tiny@224 nextvit_small@224
    swiftformer_xs@224 shvit_s1@224 caformer_s18@224 coat_tiny@224 convit_tiny@224 xcit_nano_12_p16_224@224
    vitamin_small_224@224 vit_tiny_r_s16_p8_224@224 pvt_v2_b0@224 iformer_t@224 lowformer_b0@224 efficientvim_m1@224
    csatv2@512 cpubone_nano@224
"""
TRANSFORMER = """
    tv:vit_b_32@224 tv:swin_t@224 tv:swin_v2_t@256 video:mvit_v1_b@224 video:swin3d_t@112 vit_tiny_patch16_224@224
    deit_tiny_patch16_224@224 deit3_small_patch16_224@224 beit_base_patch16_224@224 cait_xxs24_224@224
    crossvit_tiny_240@240 davit_tiny@224 eva02_tiny_patch14_224@224 gcvit_xxtiny@224 gmlp_s16_224@224
    mixer_s32_224@224 resmlp_12_224@224 hiera_tiny_224@224 mvitv2_tiny@224 nest_tiny_jx@224 pit_ti_224@224
    sequencer2d_s@224 swinv2_cr_tiny_224@224 tnt_s_legacy_patch16_224@224 twins_svt_small@224 twins_pcpvt_small@224
    volo_d1_224@224 vit_relpos_small_patch16_224@224 samvit_base_patch16_224@224 vit_small_patch32_224@224
    swin_tiny_patch4_window7_224@224 swinv2_tiny_window8_256@256 hieradet_small@224 naflexvit_base_patch16_gap@224
    qwen3_vit_88m@224
"""
QUICK = """
    tv:shufflenet_v2_x0_5 tv:mobilenet_v3_small tv:lraspp_mobilenet_v3_large skresnet18 resnest14d ecaresnet26t
    nf_resnet26 convnextv2_atto levit_128s@224 vit_tiny_patch16_224@224 mobilevit_xxs@256 gcvit_xxtiny@224
"""
QUICK_COMPRESS = """
    micro:plain micro:residual micro:concatenation micro:batch_norm_before micro:attention micro:class_token
    micro:standardised micro:gated_linear
"""


@dataclass(frozen=True)
class Architecture:
    """One network of the list."""

    name: str
    kind: str  # cnn, hybrid, transformer or pattern
    size: int
    shallow: bool = False  # one of each repeated block


def listed() -> list[Architecture]:
    """Return every architecture, then the micro-networks."""
    found = []
    for kind, names in (("cnn", CNN), ("hybrid", HYBRID), ("transformer", TRANSFORMER)):
        for entry in names.split():
            name, _, size = entry.partition("@")
            found.append(Architecture(name, kind, int(size or 128)))
    return [*found, *(Architecture(f"micro:{name}", "pattern", 12) for name in _micro().networks())]


def quick(compress: bool = False) -> list[Architecture]:
    """Return a few shallow networks for the patterns; small ones for `compress`."""
    names = {entry.partition("@")[0] for entry in (QUICK_COMPRESS if compress else QUICK).split()}
    return [replace(one, shallow=True) for one in listed() if one.name in names]


def build(one: Architecture) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Build the network with seeded random weights, in eval mode, and two inputs."""
    torch.manual_seed(0)
    prefix, _, name = one.name.rpartition(":")
    shape: tuple[int, ...] = (2, 3, one.size, one.size)
    if prefix == "micro":
        model: Any = _micro().networks()[name]
    elif prefix == "tv":
        import torchvision

        segments = name.startswith(("fcn", "deeplab", "lraspp"))
        model = torchvision.models.get_model(name, weights=None, **({"weights_backbone": None} if segments else {}))
    elif prefix == "backbone":
        import torchvision

        model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None).backbone
    elif prefix == "video":
        import torchvision

        model = getattr(torchvision.models.video, name)(weights=None)
        frames = 16 if name in {"s3d", "mvit_v1_b"} else 8
        shape = (2, 3, frames, one.size if name != "s3d" else 224, one.size if name != "s3d" else 224)
    else:
        import timm

        extra: dict[str, Any] = {"block_args": {"attn_layer": "cbam"}} if prefix == "cbam" else {}
        model = timm.create_model(name, pretrained=False, **extra)
    if one.shallow:
        drop_repeats(model)
    unsettle(model)
    return model.eval(), (torch.randn(shape),)


def drop_repeats(model: nn.Module) -> None:
    """Remove blocks with equal layers and shapes from each sequence.

    Shapes around a removed block are unchanged: every pattern of the network is kept once.
    """
    for stage in [each for each in model.modules() if isinstance(each, (nn.Sequential, nn.ModuleList))]:
        seen = set()
        for name, block in list(stage.named_children()):
            shapes = tuple((key, value.shape) for key, value in block.state_dict().items())
            if shapes and (repr(block), shapes) in seen:
                delattr(stage, name)
            seen.add((repr(block), shapes))


@torch.no_grad()
def unsettle(model: nn.Module) -> None:
    """Randomise constant initial values: norms, layer scale, biases.

    A residual branch that starts at zero would hide every fault in it.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            noise = torch.rand(tensor.shape)
            variance = "var" in name.rpartition(".")[2]
            tensor.copy_(0.2 * (noise - 0.5) if float(tensor.flatten()[0]) == 0 and not variance else 0.5 + noise)


def shim_torchvision() -> torch.library.Library | None:
    """Declare missing operators, so that a CUDA build of torchvision imports beside CPU torch."""
    spec = importlib.util.find_spec("torchvision")
    if torch.version.cuda is not None or spec is None or spec.origin is None:
        return None
    if "+cu" not in pathlib.Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _micro() -> Any:
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import micro
    finally:
        sys.path.pop(0)
    return micro
