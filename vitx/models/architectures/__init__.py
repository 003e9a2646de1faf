"""Architectures that timm lacks, and variants of those it has; timm can be imported behind it.

The modules here are built from timm's, so that what timm needs has to be declared before.
"""

from vitx.runtime.torchvision_ops import declare_missing_ops

declare_missing_ops()
