"""What holds for every entropy model: what was written is read, and is what was estimated."""

import torch

from vcodec.entropy.coders import RateEstimator, SymbolDecoder, SymbolEncoder
from vcodec.entropy.hyperprior import CodedLatents, EntropyModel


def check_round_trip(model: EntropyModel, size: tuple[int, int]) -> tuple[CodedLatents, CodedLatents]:
    """Codes random latents of this height and width and reads them back. What the encoder gave, and the decoder."""
    shape, quality = (1, model.latents, *size), torch.tensor([32.0])
    y = 3 * torch.randn(shape)
    estimator = RateEstimator(1, training=False, rdoq=0)
    with torch.inference_mode():
        estimated = model.code(estimator, y, shape, quality)
        model.make_exact()
        encoder = SymbolEncoder(rdoq=0)
        coded = model.code(encoder, y, shape, quality)
        payload = encoder.finish()
        decoder = SymbolDecoder(payload)
        read = model.code(decoder, None, shape, quality)
    decoder.finish()
    assert torch.equal(coded.y_hat, read.y_hat)
    assert torch.allclose(estimated.y_hat, coded.y_hat.float(), atol=1e-4)
    assert 8 * len(payload) < float(estimator.bits) + 40, "adaptive coding can only save"
    return coded, read
