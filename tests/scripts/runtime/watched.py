# SPDX-License-Identifier: Apache-2.0
"""guest.wrap, with the memory of all tensors looked up after every step for its summary."""

import sys
from guest import wrap

wrap._LOOKED_UP = 1 << 60
wrap.main(sys.argv[1:])
