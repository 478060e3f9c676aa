"""Batch norms that count the images of all processes."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from alps.errors import ConfigError

#: What the conversion keeps the meaning of; a subclass may compute anything.
CONVERTIBLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d)


class SyncBatchNorm(LayerSync):
    """Convert batch norms by timm's function: torch's drops the activation inside timm's own.

    The parameters stay the same objects under the same names, so a checkpoint of the converted net
    is one of the net as it was built.
    """

    def __init__(self) -> None:
        self._originals: dict[str, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every batch norm of a net, in place.

        Raises:
            ConfigError: a batch norm would compute something else afterwards.
        """
        self._originals = {
            name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)
        }
        for name, module in self._originals.items():
            hooked = module._forward_hooks or module._forward_pre_hooks
            if type(module) not in CONVERTIBLE or hooked:
                raise ConfigError(
                    f"the batch norm {name} ({type(module).__name__}"
                    f"{' with hooks' if hooked else ''}) cannot be synchronised among processes; "
                    "set trainer.sync_batchnorm=false, or take another model.encoder"
                )
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the batch norms back with what they have learnt since."""
        for name, original in self._originals.items():
            synchronised = model.get_submodule(name)
            for key, buffer in synchronised.named_buffers(recurse=False):
                setattr(original, key, buffer)  # moved to another device it is another tensor
            original.train(synchronised.training)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, original)
        self._originals = {}
        return model
