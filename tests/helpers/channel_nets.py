"""Nets of many kinds for the tests of what narrows and widens them, with the channels that go together in each."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions with BatchNorm, and a shortcut that is a convolution where the shape changes."""

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        shortcut = nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
        self.down = nn.Sequential(*shortcut) if before != after else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.down is None else self.down(x)
        return torch.relu(y)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.fc = nn.Conv2d(1, 8, 3), Block(8, 8), Block(8, 12, 2), nn.Linear(12, 3)

    def forward(self, x):
        return self.fc(self.b(self.a(self.stem(x))).mean((2, 3)))


class Inverted(nn.Module):
    """The block of a MobileNet: wide inside, depthwise, with a gate from the pooled channels."""

    def __init__(self, width, wide):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.ReLU(), nn.Conv2d(4, wide, 1))
        self.project = nn.Conv2d(wide, width, 1)

    def forward(self, x):
        y = F.hardswish(self.depthwise(self.expand(x)))
        return x + self.project(input=y * torch.sigmoid(self.gate(y)))


class Skips(nn.Module):
    """A U-Net with one level."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 10, 3, 2, 1)
        self.up, self.merge, self.out = nn.ConvTranspose2d(10, 6, 2, 2), nn.Conv2d(12, 7, 3), nn.Conv2d(7, 2, 1)

    def forward(self, x):
        a = F.relu(self.down1(x))
        b = F.relu(self.down2(a))
        return self.out(F.relu(self.merge(torch.cat([self.up(b), a], dim=1))))


class Between(nn.Module):
    """A convolution of 6 channels and 36 pixels, something between, and two Linears."""

    def __init__(self, between):
        super().__init__()
        self.conv, self.fc1, self.fc2, self.between = nn.Conv2d(1, 6, 3), nn.Linear(216, 5), nn.Linear(5, 2), between

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(self.between(self.conv(x)))))


class OfDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, batch):
        hidden = torch.tanh(self.a(batch["x"]) + self.b(batch["y"]))
        return {"out": self.out(hidden), "pair": (self.out(-hidden), hidden.size(0))}


class Optional(nn.Module):
    """A branch on what was passed, and one on a shape."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 5), nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x, mask=None):
        if x.dim() == 1:
            x = x[None]
        hidden = self.a(x) if mask is None else self.a(x) * mask
        for _ in range(x.shape[0] // len(x)):
            hidden = hidden + self.b(x)
        return self.out(hidden.relu())


class Attention(nn.Module):
    """A block of a Transformer."""

    def __init__(self):
        super().__init__()
        self.into, self.norm1, self.norm2 = nn.Linear(3, 8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down, self.out = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.into(x)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.out((x + self.down(F.gelu(self.up(self.norm2(x)))))[:, 0])


class Dense(nn.Module):
    """Every convolution takes the outputs of all before."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 3, padding=1)) for width in (1, 5, 9)
        )
        self.norm, self.out = nn.BatchNorm2d(13), nn.Linear(13, 2)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.out(self.norm(x).max(-1)[0].amax(-1))


class Mixer(nn.Module):
    """Layers over the pixels and over the channels in turn."""

    def __init__(self):
        super().__init__()
        self.patches, self.pixels1, self.pixels2 = nn.Conv2d(1, 8, 2, 2), nn.Linear(16, 10), nn.Linear(10, 16)
        self.channels1, self.channels2, self.out = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.patches(x).flatten(2)
        x = (x + self.pixels2(F.gelu(self.pixels1(x)))).transpose(1, 2)
        return self.out((x + self.channels2(F.gelu(self.channels1(x)))).mean(1))


class Spotlight(nn.Module):
    """One channel that weighs the pixels of all others."""

    def __init__(self):
        super().__init__()
        self.conv, self.light, self.out = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 1, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = self.conv(x)
        x = torch.where(x > 0, x, 0.1 * x)
        return self.out(x * torch.sigmoid(self.light(x)))


class Heads(nn.Module):
    """Attention whose number of heads follows from the number of channels, so that it could be narrowed in name."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(3, 8)
        self.hidden, self.out = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x):
        if x.sum() > 1e6:  # which torch.fx cannot record
            return self.out(self.hidden(self.value(x)))
        q, k, v = (layer(x).view(2, 5, -1, 4).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return self.out(self.hidden(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, -1)))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.into, self.inner = nn.Embedding(10, 6), nn.Linear(6, 7), nn.LSTM(7, 5, batch_first=True)
        self.hidden, self.out = nn.Linear(5, 9), nn.Linear(9, 2)

    def forward(self, x):
        return self.out(F.relu(self.hidden(self.inner(self.into(self.words(x)))[0][:, -1])))


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.inner, self.out = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.into(x)
        for _ in range(3):
            x = F.silu(self.inner(x))
        return self.out(x)


class Scaled(nn.Module):
    """A parameter of its own, and a layer of its own class."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.scale = (
            nn.Linear(3, 4),
            Doubled(4, 5),
            nn.Linear(5, 6),
            nn.Parameter(torch.rand(4)),
        )
        self.d, self.out = nn.Linear(6, 7), nn.Linear(7, 2)

    def forward(self, x):
        return self.out(self.d(self.c(self.b(self.a(x) * self.scale))))


class Doubled(nn.Linear):
    def forward(self, x):
        return F.linear(x, 2 * self.weight, self.bias)


class Branching(nn.Module):
    """A branch on values, which torch.fx cannot record."""

    def __init__(self):
        super().__init__()
        self.a, self.out, self.rate = nn.Linear(3, 5), nn.Linear(5, 2), 0.0

    def forward(self, x):
        hidden = F.dropout(self.a(x), self.rate, self.training)
        return self.out(hidden if x.sum() > 0 else hidden.relu())


def tied():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    net[2].weight = net[0].weight
    return net


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 5),
        nn.PReLU(5), nn.Linear(5, 2),
    )  # fmt: skip


def one_dimensional():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4, affine=True), nn.PReLU(4), nn.ConvTranspose1d(4, 5, 3, bias=False),
        nn.BatchNorm1d(5), nn.Flatten(), nn.Linear(40, 2),
    )  # fmt: skip


def upsampling():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Upsample(scale_factor=2), nn.ConvTranspose2d(4, 4, 3, groups=4),
        nn.ConvTranspose2d(4, 6, 2, stride=2), nn.ZeroPad2d(1), nn.Dropout2d(0.0), nn.Conv2d(6, 2, 1),
    )  # fmt: skip


def three_dimensional():
    pooled = nn.Conv3d(1, 4, 3), nn.AdaptiveMaxPool3d(1), nn.Flatten()
    return nn.Sequential(*pooled, nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 3))


def grouped():
    convolutions = nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(6, 2, 1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), *convolutions)


def weight_normed():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    return nn.Sequential(first, nn.Linear(4, 5), nn.Linear(5, 2))


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 2))


IMAGES, ROWS, SEQUENCES = torch.Size([2, 1, 8, 8]), torch.Size([2, 3]), torch.Size([2, 5, 3])

# name -> net, shape of the inputs or what makes them, width of each group, and a part of each reason
NETS = {
    "chain": (lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), ROWS, {"0": 8}, {"2": "outputs"}),
    "convolutional": (convolutional, IMAGES, {"0": 6, "5": 5}, {"7": "outputs"}),
    "residual": (Residual, IMAGES, {"stem": 8, "a.conv1": 8, "b.conv1": 12, "b.conv2": 12}, {"fc": "outputs"}),
    "inverted": (
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), Inverted(8, 16), nn.Conv2d(8, 2, 1)), IMAGES,
        {"0": 8, "1.expand.0": 16, "1.gate.1": 4}, {"2": "outputs"},
    ),
    "skips": (Skips, IMAGES, {"down1": 6, "down2": 10, "up": 6, "merge": 7}, {"out": "outputs"}),
    "dense": (Dense, IMAGES, {"layers.0.2": 4, "layers.1.2": 4, "layers.2.2": 4}, {"out": "outputs"}),
    "mixer": (Mixer, IMAGES, {"patches": 8, "pixels1": 10, "channels1": 12}, {"pixels2": "add()"}),
    "spotlight": (Spotlight, IMAGES, {"conv": 6}, {"light": "one channel"}),
    "squeezed": (lambda: Between(lambda y: y.squeeze().flatten(1)), IMAGES, {"fc1": 5}, {"conv": "squeeze()"}),
    "flattened": (lambda: Between(lambda y: y.view(y.size(0), -1)), IMAGES, {"conv": 6, "fc1": 5}, {}),
    "flattened by length": (lambda: Between(lambda y: y.reshape(len(y), -1)), IMAGES, {"conv": 6, "fc1": 5}, {}),
    "channels last": (lambda: Between(lambda y: y.permute(0, 2, 3, 1).flatten(1)), IMAGES, {"conv": 6, "fc1": 5}, {}),
    "joined twice": (
        lambda: Between(lambda y: torch.cat([y[..., :3], y[..., 3:]], 2).reshape(2, -1)), IMAGES,
        {"conv": 6, "fc1": 5}, {},
    ),
    "a number": (lambda: Between(lambda y: y.view(-1, 216)), IMAGES, {"fc1": 5}, {"conv": "RuntimeError"}),
    "counted": (lambda: Between(lambda y: (y / y.size(1)).flatten(1)), IMAGES, {"fc1": 5}, {"conv": "their number"}),
    "indexed": (lambda: Between(lambda y: torch.cat([y[:, 3:], y[:, :3]], 1).flatten(1)), IMAGES, {"fc1": 5},
                {"conv": "indexed"}),
    "sorted": (lambda: Between(lambda y: y.sort(1)[0].flatten(1)), IMAGES, {"fc1": 5}, {"conv": "sort()"}),
    "softmax": (lambda: Between(lambda y: F.softmax(y, 1).flatten(1)), IMAGES, {"fc1": 5}, {"conv": "softmax()"}),
    "softmax of pixels": (lambda: Between(lambda y: y.softmax(-1).flatten(1)), IMAGES, {"conv": 6, "fc1": 5}, {}),
    "of a dict": (OfDict, {"x": torch.Size([2, 3]), "y": torch.Size([2, 4])}, {"a": 5}, {"out": "outputs"}),
    "optional": (Optional, ROWS, {"a": 5}, {"out": "outputs"}),
    "attention": (Attention, SEQUENCES, {"up": 16}, {"attention": "MultiheadAttention", "down": "norm1"}),
    "encoder": (encoder, SEQUENCES, {"1.layers.0.linear1": 12, "1.layers.1.linear1": 12},
                {"1.layers.0.self_attn": "MultiheadAttention"}),
    "repeated": (Repeated, ROWS, {"into": 6}, {"out": "outputs"}),
    "own parameter": (Scaled, ROWS, {"c": 6, "d": 7}, {"a": "mul()", "b.weight": "directly", "scale": "directly"}),
    "words": (Words, lambda: torch.randint(10, (2, 4)), {"hidden": 9}, {"words": "Embedding", "into": "LSTM"}),
    "tied": (tied, ROWS, {"3": 5}, {"0": '"2"', "1": '"2" (Linear)', "2": '"0"'}),
    "one dimension": (one_dimensional, torch.Size([2, 2, 8]), {"0": 4, "3": 5}, {"6": "outputs"}),
    "upsampling": (upsampling, IMAGES, {"0": 4, "3": 6}, {"6": "outputs"}),
    "three dimensions": (three_dimensional, torch.Size([2, 1, 5, 5, 5]), {"0": 4, "3": 1}, {"5": "outputs"}),
    "grouped": (grouped, IMAGES, {}, {"0": "GroupNorm", "1": "GroupNorm", "2": "Conv2d", "3": "grouped"}),
    "weight norm": (weight_normed, ROWS, {"1": 5}, {"0": "computed from others"}),
}  # fmt: skip


def net_of(name):
    """A net in evaluation mode whose BatchNorms have seen something, and inputs of two rows."""
    torch.manual_seed(0)
    build, shape, *_ = NETS[name]
    net = build()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm1d):
            nn.init.uniform_(layer.bias)
            if layer.running_mean is not None:
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    if isinstance(shape, dict):
        return net.eval(), {key: torch.randn(size) for key, size in shape.items()}
    return net.eval(), shape() if callable(shape) else torch.randn(shape)
