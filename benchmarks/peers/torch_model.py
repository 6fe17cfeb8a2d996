"""The three topologies in plain PyTorch, sharing no code with the Keras ones: what parity and speed are held against.

Inside `encoder` the parameters have torchvision's names. Everything is channels first: images and depth are
(batch, channels, height, width), class ids (batch, height, width).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, the second of them dilated."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions; stride and dilation are the 3×3's."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


RESNETS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """Features of `layer1` (stride 4) and of `layer4`; weights as torchvision's, without the classifier.

    Args:
        name: a key of `RESNETS`.
        replace_stride_with_dilation: for layer2, layer3 and layer4.
    """

    def __init__(self, name: str, replace_stride_with_dilation: Sequence[bool] = (False, False, False)):
        super().__init__()
        self.block, depths = RESNETS[name]
        self.channels = 64
        self.dilation = 1
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(64, depths[0], stride=1, dilate=False)
        self.layer2 = self._stage(128, depths[1], stride=2, dilate=replace_stride_with_dilation[0])
        self.layer3 = self._stage(256, depths[2], stride=2, dilate=replace_stride_with_dilation[1])
        self.layer4 = self._stage(512, depths[3], stride=2, dilate=replace_stride_with_dilation[2])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, width: int, depth: int, stride: int, dilate: bool) -> nn.Sequential:
        first_dilation = self.dilation
        if dilate:
            self.dilation *= stride
            stride = 1
        if self.block is BasicBlock:
            # Torchvision has no dilated basic block. The report's framework dilates a stage's first one by 2, always.
            first_dilation = 2 if dilate else 1
        blocks = [self.block(self.channels, width, stride, first_dilation)]
        self.channels = width * self.block.expansion
        blocks += [self.block(self.channels, width, 1, self.dilation) for _ in range(depth - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        shallow = self.layer1(x)
        return shallow, self.layer4(self.layer3(self.layer2(shallow)))


class ConvBNReLU(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class ASPP(nn.Module):
    def __init__(self, in_channels: int, rates: Sequence[int]):
        super().__init__()
        self.branch0 = ConvBNReLU(in_channels, 256)
        self.branch1, self.branch2, self.branch3 = (ConvBNReLU(in_channels, 256, 3, rate) for rate in rates)
        self.pooled = ConvBNReLU(in_channels, 256)
        self.project = ConvBNReLU(5 * 256, 256)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x), pooled], 1))


class Projection(nn.Module):
    def __init__(self, in_channels: int):
        super().__init__()
        self.project = ConvBNReLU(in_channels, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x)


class Decoder(nn.Module):
    def __init__(self, shallow_channels: int):
        super().__init__()
        self.skip = ConvBNReLU(shallow_channels, 48)
        self.refine1 = ConvBNReLU(256 + 48, 256, 3)
        self.refine2 = ConvBNReLU(256, 256, 3)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        x = torch.cat([resize(deep, shallow.shape[2:]), self.skip(shallow)], 1)
        return self.refine2(self.refine1(x))


class Upsample(nn.Module):
    """What stands in the decoder's place when it is switched off."""

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return resize(deep, shallow.shape[2:])


class Refine(nn.Module):
    def __init__(self):
        super().__init__()
        self.refine1 = ConvBNReLU(256, 256, 3)
        self.refine2 = ConvBNReLU(256, 256, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.refine2(self.refine1(x))


class AttentionGate(nn.Module):
    def __init__(self, channels: int = 256):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.attention = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.attention.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * torch.sigmoid(self.attention(x))


class Predictor(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.predict = nn.Conv2d(256, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.predict(x), scale_factor=4, mode="bilinear", align_corners=False)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


class MultiTaskNetwork(nn.Module):
    """An encoder over raw RGB images, and what the topologies have in common.

    Args:
        encoder: a key of `RESNETS`.
        dilation: the encoder's `replace_stride_with_dilation`.
        aspp: whether deep features go through the ASPP or one 1×1 convolution.
        skip: whether they are decoded together with shallow ones or only upsampled.
        rates: dilation rates of the ASPP.
        num_classes: number of classes.
        depth_mean: metres; what the normalised depth is taken back with.
        depth_std: metres.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        *,
        dilation: Sequence[bool] = (False, False, True),
        aspp: bool = True,
        skip: bool = True,
        rates: Sequence[int] = (3, 6, 9),
        num_classes: int = 19,
        depth_mean: float = 27.0727,
        depth_std: float = 29.1264,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.depth_mean, self.depth_std = depth_mean, depth_std
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).reshape(3, 1, 1), persistent=False)
        self.encoder = ResNet(encoder, dilation)
        self.options = {"aspp": aspp, "skip": skip, "rates": rates}
        self.build_heads()

    def add_branch(self, name: str) -> None:
        """Adds what takes an encoder's features to a task's, with parameters under the branch's name."""
        channels, expansion = self.encoder.channels, self.encoder.block.expansion
        aspp, skip = self.options["aspp"], self.options["skip"]
        context = ASPP(channels, self.options["rates"]) if aspp else Projection(channels)
        setattr(self, f"{name}_aspp" if aspp else f"{name}_projection", context)
        setattr(self, f"{name}_decoder", Decoder(64 * expansion) if skip else Upsample())

    def branch(self, name: str, shallow: Tensor, deep: Tensor) -> Tensor:
        context = getattr(self, f"{name}_aspp" if self.options["aspp"] else f"{name}_projection")
        return getattr(self, f"{name}_decoder")(context(deep), shallow)

    def metres(self, x: Tensor) -> Tensor:
        return x * self.depth_std + self.depth_mean

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.heads(*self.encoder((images - self.mean) / self.std))


class Joint(MultiTaskNetwork):
    def build_heads(self) -> None:
        self.add_branch("shared")
        self.shared_predictor = Predictor(self.num_classes + 1)

    def heads(self, shallow: Tensor, deep: Tensor) -> dict[str, Tensor]:
        x = self.shared_predictor(self.branch("shared", shallow, deep))
        semseg, depth = x.split([self.num_classes, 1], dim=1)
        return {"semseg": semseg, "depth": self.metres(depth)}


class Branched(MultiTaskNetwork):
    def build_heads(self) -> None:
        self.add_branch("semseg")
        self.add_branch("depth")
        self.semseg_predictor = Predictor(self.num_classes)
        self.depth_predictor = Predictor(1)

    def heads(self, shallow: Tensor, deep: Tensor) -> dict[str, Tensor]:
        semseg = self.branch("semseg", shallow, deep)
        depth = self.branch("depth", shallow, deep)
        return {"semseg": self.semseg_predictor(semseg), "depth": self.metres(self.depth_predictor(depth))}


class Distillation(Branched):
    def build_heads(self) -> None:
        super().build_heads()
        self.semseg_gate, self.depth_gate = AttentionGate(), AttentionGate()
        self.semseg_final_decoder, self.depth_final_decoder = Refine(), Refine()
        self.semseg_final_predictor = Predictor(self.num_classes)
        self.depth_final_predictor = Predictor(1)

    def heads(self, shallow: Tensor, deep: Tensor) -> dict[str, Tensor]:
        semseg = self.branch("semseg", shallow, deep)
        depth = self.branch("depth", shallow, deep)
        final_semseg = self.semseg_final_decoder(semseg + self.depth_gate(depth))
        final_depth = self.depth_final_decoder(depth + self.semseg_gate(semseg))
        return {
            "semseg": self.semseg_final_predictor(final_semseg),
            "depth": self.metres(self.depth_final_predictor(final_depth)),
            "semseg_initial": self.semseg_predictor(semseg),
            "depth_initial": self.metres(self.depth_predictor(depth)),
        }


TOPOLOGIES = {"joint": Joint, "branched": Branched, "distillation": Distillation}


def semseg_loss(logits: Tensor, labels: Tensor, ignore_label: int = 255) -> Tensor:
    """Mean cross entropy over the valid pixels; 0 where there are none."""
    losses = F.cross_entropy(logits, labels, ignore_index=ignore_label, reduction="sum")
    return losses / (labels != ignore_label).sum().clamp(min=1)


def depth_loss(prediction: Tensor, depth: Tensor, std: float) -> Tensor:
    """Mean squared error of normalised depth over each image's valid pixels, then over the images that have any."""
    valid = depth > 0
    errors = torch.where(valid, (prediction - depth) / std, 0.0)
    pixels = valid.sum((1, 2, 3))
    means = errors.square().sum((1, 2, 3)) / pixels.clamp(min=1)
    return means.sum() / (pixels > 0).sum().clamp(min=1)


def joint_loss(
    predictions: dict[str, Tensor], labels: dict[str, Tensor], *, depth_std: float = 29.1264, semseg_weight: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum, the segmentation's and the depth's loss; a task with several predictions takes their mean."""
    semseg = [semseg_loss(x, labels["semseg"]) for name, x in predictions.items() if name.startswith("semseg")]
    depth = [depth_loss(x, labels["depth"], depth_std) for name, x in predictions.items() if name.startswith("depth")]
    semseg, depth = torch.stack(semseg).mean(), torch.stack(depth).mean()
    return semseg_weight * semseg + (1 - semseg_weight) * depth, semseg, depth
