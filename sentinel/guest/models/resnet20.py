# SPDX-License-Identifier: Apache-2.0
"""ResNet-20 for 32x32 images. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "ResNet-20 on 32x32 images (He et al. 2016): wide and short"
PARAMETERS = {"batch": {"default": 8, "minimum": 1, "maximum": 1024, "description": "images per step"}}


def build(batch):
    """Build 3 blocks per stage."""
    from guest.models import _layers

    return _layers.resnet(batch, blocks=3)
