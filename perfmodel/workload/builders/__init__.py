"""Built-in builders; importing this package registers them."""

from perfmodel.workload.builders.decoder import build_decoder
from perfmodel.workload.builders.encoder import build_encoder
from perfmodel.workload.builders.encoder_decoder import build_encoder_decoder

__all__ = ["build_decoder", "build_encoder", "build_encoder_decoder"]
