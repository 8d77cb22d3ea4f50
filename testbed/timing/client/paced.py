# SPDX-License-Identifier: Apache-2.0
"""Runs an ordinary program so that its own clocks see what memory costs: `python3 -m paced COMMAND...`

Within the region model time goes by at a fixed rate of real time, the dilation. Without --dilation the command
runs twice: once to find out what dilation this host sustains, then paced by it. Times that the program measures,
divided by the dilation, are those of the machine that the preset describes. It runs on the vCPU that computes.

Afterwards standard error says the dilation, and for which share of the time the host was behind. More than
1 % is called unreliable, and so is a dilation of more than 5,000; the exit status is 75 then. python2.7 and 3.
"""

from __future__ import absolute_import, division, print_function

import argparse
import subprocess
import sys

import timing_client

RELIABLE = 0.01
LARGEST = 5000  # dilation; beyond it the guest's timer interrupts add more than 1 %
MARGIN = 1.5  # over what was sustained: room to catch up
UNRELIABLE = 75  # EX_TEMPFAIL


def run(command, dilation):
    """Run the command in a region of its own; returns its exit status."""
    timing_client.pace(dilation)
    timing_client.region_begin()
    try:
        return subprocess.call(command)
    finally:
        timing_client.region_end()
        timing_client.pace(0)


def main():
    parser = argparse.ArgumentParser(prog="python3 -m paced", description=__doc__.splitlines()[0])
    parser.add_argument("--dilation", type=float, help="real ns for each model ns (found out if not given)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if not given.command or (given.dilation is not None and given.dilation < 1):
        parser.error("a command is needed" if not given.command else "the dilation must be at least 1")
    if not timing_client.modelled():
        parser.error("this machine has no timing model: start it with a preset")
    timing_client.compute()
    dilation = given.dilation
    if dilation is None:
        status = run(given.command, 0)
        if status:
            return status
        dilation = MARGIN * timing_client.host()[0]
    status = run(given.command, dilation)
    behind = timing_client.host()[1]
    verdict = "reliable"
    if behind > RELIABLE:
        verdict = "UNRELIABLE: more than %.0f %%" % (100 * RELIABLE)
    elif dilation > LARGEST:
        verdict = "UNRELIABLE: beyond %d timer interrupts add more than %.0f %%" % (LARGEST, 100 * RELIABLE)
    print("paced: dilation %.6g, behind for %.2f %% of the time (%s)" % (dilation, 100 * behind, verdict),
          file=sys.stderr)
    return status or (0 if verdict == "reliable" else UNRELIABLE)


if __name__ == "__main__":
    sys.exit(main())
