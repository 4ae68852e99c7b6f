"""What an image codec costs at a picture size: multiply-accumulates of each transform, parameters, peak memory.

Nothing is computed: the model runs on tensors that have shapes alone, so any size can be asked for.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..layers.gdn import GDN
from ..layers.low_rank import LowRankReduction
from ..layers.semantic import SemanticScan
from ..layers.swin import WindowAttention
from ..layers.vss import DIRECTIONS, SelectiveScan2d
from ..models import create_model
from ..models.model import ImageModel

PARTS = ("g_a", "h_a", "h_s", "g_s")


@dataclass(frozen=True)
class Complexity:
    """One model at one picture size.

    macs: multiply-accumulates of each of PARTS, in the papers' way of counting: convolutions, linear layers and GDN,
    without the scan's own projections (x_proj, dt_proj), its recurrence and attention's products. all_macs: with
    these. h_s holds the whole entropy model. parameters: of the image codec. peak_bytes: the most memory that weights
    and tensors of coding one picture take at a time in fp32, every tensor being freed when it is no longer used.
    """

    model: str
    width: int
    height: int
    parameters: int
    macs: dict[str, int]
    all_macs: dict[str, int]
    peak_bytes: int


def complexity(name: str, width: int = 768, height: int = 512) -> Complexity:
    """The complexity of a registered model; of a video model, that of its I-frame codec."""
    with torch.device("meta"):
        model = create_model(name, pretrained=False).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        model.to_empty(device="cpu")
        return measure(model, name, torch.empty(1, 3, height, width))


def measure(model: ImageModel, name: str, x: Tensor) -> Complexity:
    """The complexity of coding x (1, 3, H, W), by running the model on it."""
    counter = _MacCounter(model)
    codec = model.iframe
    frames, quality = x[:, None], torch.full((1,), 32.0)
    with counter, _MemoryMeter(codec) as memory:
        ImageModel.forward(model, frames, quality)
    return Complexity(
        model=name,
        width=x.shape[-1],
        height=x.shape[-2],
        parameters=sum(parameter.numel() for parameter in codec.parameters()),
        macs=counter.macs,
        all_macs=counter.all_macs,
        peak_bytes=memory.peak,
    )


class _MacCounter:
    """Adds up multiply-accumulates while it is entered, by hooks on the layers that have any."""

    def __init__(self, model: ImageModel):
        self.macs = dict.fromkeys(PARTS, 0)
        self.all_macs = dict.fromkeys(PARTS, 0)
        self._model = model
        self._handles: list[Any] = []

    def __enter__(self) -> "_MacCounter":
        for name, module in self._model.iframe.named_modules():
            if any(isinstance(module, kind) for kind in _COUNTS):
                published = not name.endswith((".x_proj", ".dt_proj")) and not isinstance(module, UNPUBLISHED)
                self._handles.append(module.register_forward_hook(self._hook(_part(name), published)))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, part: str, published: bool) -> Any:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            macs = next(rule for kind, rule in _COUNTS.items() if isinstance(module, kind))(module, inputs[0], output)
            self.all_macs[part] += macs
            self.macs[part] += macs if published else 0

        return count


def _part(name: str) -> str:
    for prefix, part in (("analysis", "g_a"), ("latent_codec.model.hyper_analysis", "h_a"), ("synthesis", "g_s")):
        if name.startswith(prefix):
            return part
    return "h_s"


def _convolution(module: Any, x: Tensor, out: Tensor) -> int:
    return out.numel() * module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]


def _transposed(module: Any, x: Tensor, out: Tensor) -> int:
    return x.numel() * module.out_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]


def _attention(module: Any, x: Tensor, out: Tensor) -> int:
    rows, columns = (-(-side // module.window) * module.window for side in x.shape[2:])
    return 2 * len(x) * rows * columns * module.window**2 * x.shape[1]


def _scan(module: Any, x: Tensor, out: Tensor) -> int:
    """delta * A, (delta * u) * B, state and C for every state; delta * u and D * u for every channel."""
    directions = DIRECTIONS if isinstance(module, SelectiveScan2d) else 1
    return directions * x.numel() * (4 * module.A_log.shape[-1] + 2)


UNPUBLISHED = (WindowAttention, SelectiveScan2d, SemanticScan)
_COUNTS: dict[type[nn.Module], Any] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    nn.Linear: lambda module, x, out: out.numel() * module.in_features,
    GDN: lambda module, x, out: x.numel() * x.shape[1],
    LowRankReduction: lambda module, x, out: 2 * x.numel() * x.shape[1],
    WindowAttention: _attention,
    SelectiveScan2d: _scan,
    SemanticScan: _scan,
}


class _MemoryMeter(TorchDispatchMode):
    """The most bytes that a module's weights and the tensors made while it is entered held at a time."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self._now = self.peak = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
        self._seen: dict[int, weakref.finalize] = {}
        self._weights = {id(t.untyped_storage()) for t in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._seen or key in self._weights:
            return
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        self._seen[key] = weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        del self._seen[key]
        self._now -= size
