"""Batch norms whose statistics include the images of all processes."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from alps.errors import ConfigError

#: Classes that the conversion supports; it would change the results of subclasses.
CONVERTIBLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d)


class SyncBatchNorm(LayerSync):
    """Converts batch norms to synchronised batch norms, and back.

    The conversion is timm's, because torch's drops the activation inside timm's batch norms.
    Parameters keep their names, so a checkpoint of the converted model fits the original model.
    """

    def __init__(self) -> None:
        self._originals: dict[str, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Return the model after converting its batch norms in place.

        Raises:
            ConfigError: the conversion would change the results of a batch norm.
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
                    "set trainer.sync_batchnorm=false, or use a different model.encoder"
                )
        # timm has no annotations here.
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the original batch norms with the current statistics and return the model."""
        for name, original in self._originals.items():
            synchronised = model.get_submodule(name)
            for key, buffer in synchronised.named_buffers(recurse=False):
                setattr(original, key, buffer)  # a move between devices replaces it
            original.train(synchronised.training)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, original)
        self._originals = {}
        return model
