# SPDX-License-Identifier: Apache-2.0
"""ResNet-56 for CIFAR-10. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "ResNet-56 on 32x32 images: deep and narrow"
SOURCE = "He et al. 2015, arXiv 1512.03385, section 4.2"
PARAMETERS = {"batch": {"default": 4, "minimum": 1, "maximum": 1024, "description": "images per step"}}


def build(batch):
    """Build the network of `resnet` with the published width."""
    from guest.models import resnet

    return resnet.build(batch, depth=56, width=16)
