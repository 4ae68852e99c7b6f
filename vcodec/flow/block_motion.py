"""The motion path in blocks: a field of vectors, coded adaptively, and the prediction that it makes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entropy.block_vectors import BOTH, MODE, OLDER, SPLIT, X0
from ..entropy.coders import EntropyCoder
from ..layers.rate import lambda_of_quality
from ..layers.transform import full_precision
from .block_prediction import CELL, QUARTERS, block_prediction
from .block_search import block_search, field_size
from .config import FlowConfig
from .motion import Motion

SIDE_CHANNELS = 6  # of `block_features`


class BlockMotion(nn.Module):
    """(x, references) -> search -> field of vectors -> symbols -> prediction.

    The field is not learned: vectors of blocks of 16x16 and 8x8 pixels into the two last pictures, as standard codecs
    have them. On a CPU they are found, coded and applied in a small part of the time that a learned flow takes.
    """

    def __init__(self, config: FlowConfig):
        super().__init__()
        self.config = config

    def code(self, coder: EntropyCoder, x: Tensor | None, reference: Tensor, quality: Tensor,
             previous: Tensor | None = None, older: Tensor | None = None,
             fields: Tensor | None = None) -> Motion:  # fmt: skip
        """Codes the motion from the references (batch, 3, H, W) to x, all in [0, 1]; x is None when decoding.

        previous: the fields of the frame before, if it has any; older: the reference before, if there is one; fields:
        what the search has found already, for an encoder that comes again. Always in full precision.
        """
        height, width = reference.shape[-2:]
        if x is not None and fields is None:
            lmbda = lambda_of_quality(quality)
            second = None if older is None else older.detach()
            fields = block_search(x, reference.detach(), second, lmbda, previous)
        coder.begin("motion")
        fields = coder.code_fields(fields, (len(reference), *field_size(height, width)), previous, older is not None)
        fields = fields.to(reference.device)
        with full_precision(reference):
            prediction = block_prediction(reference.float(), None if older is None else older.float(), fields)
        return Motion(prediction, self._flow(fields, height, width), fields=fields)

    def still(self, reference: Tensor) -> Motion:
        """No motion at all: the reference is the prediction."""
        return Motion(reference, torch.zeros_like(reference))

    def _flow(self, fields: Tensor, height: int, width: int) -> Tensor:
        """The displacement into the newest reference, in pixels; the scale is that of the sharp plane."""
        vectors = fields[:, X0 : X0 + 2].float() / QUARTERS
        vectors = vectors.repeat_interleave(CELL, -2).repeat_interleave(CELL, -1)[..., :height, :width]
        return torch.cat([vectors, torch.zeros_like(vectors[:, :1])], dim=1)


def block_features(fields: Tensor, size: tuple[int, ...]) -> Tensor:
    """What block motion tells of the residual: float64 (batch, SIDE_CHANNELS, *size), a place for each cell.

    Where blocks are small, refer to the older picture or to both, or move otherwise than their neighbours, predictions
    are worse. Made from integers alone, so that it is the same on every machine: it informs scales.
    """
    vectors = fields[:, X0 : X0 + 2].double()
    across, down = vectors.diff(dim=3).abs().sum(1), vectors.diff(dim=2).abs().sum(1)
    beside = [F.pad(across, (1, 0)), F.pad(across, (0, 1)), F.pad(down, (0, 0, 1, 0))]
    kinds = [fields[:, SPLIT], fields[:, MODE] == OLDER, fields[:, MODE] == BOTH]
    features = torch.stack([*(kind.double() for kind in kinds), *(torch.log1p(edge) for edge in beside)], dim=1)
    return features[:, :, : size[0], : size[1]]
