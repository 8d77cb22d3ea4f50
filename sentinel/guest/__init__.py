# SPDX-License-Identifier: Apache-2.0
"""Code that runs in the guest, copied there as a package. It imports nothing from the rest of the project.

    train.py    trains one model of a suite
    wrap.py     runs an unmodified training script under the runtime
    models/     the models, one file each
    bindings/   Python bindings to the runtime, the profiler and the kernel
"""
