# SPDX-License-Identifier: Apache-2.0
"""Replay a traced training step under any placement, budget or plan, without a machine.

Data flows one way: a trace, a placement of its pages, the engine (the timing model as a library), a result.
"""
