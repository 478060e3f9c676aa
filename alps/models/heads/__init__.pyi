# The public names; imported when they are first used.
from .fpn import FPN as FPN
from .mmseg import MmsegHead as MmsegHead
from .unet import UNet as UNet
from .upernet import UPerNet as UPerNet
