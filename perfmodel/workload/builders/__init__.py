"""Built-in builders; importing this package registers them."""

from perfmodel.workload.builders.decoder import build_decoder

__all__ = ["build_decoder"]
