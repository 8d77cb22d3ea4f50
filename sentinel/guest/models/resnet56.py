# SPDX-License-Identifier: Apache-2.0
"""ResNet-56 for 32x32 images. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "ResNet-56 on 32x32 images (He et al. 2016): deep and narrow"
PARAMETERS = {"batch": {"default": 4, "minimum": 1, "maximum": 1024, "description": "images per step"}}


def build(batch):
    """Build 9 blocks per stage."""
    from guest.models import _layers

    return _layers.resnet(batch, blocks=9)
