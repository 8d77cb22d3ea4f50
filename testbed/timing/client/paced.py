# SPDX-License-Identifier: Apache-2.0
"""Runs an ordinary program so that its own clocks show the cost of memory: `python3 -m paced COMMAND...`

Model time passes at a fixed rate of real time, the dilation. Without --dilation the command runs twice: once
to measure the dilation that this host sustains, then paced by it. Times that the program measures, divided by
the dilation, are those of the machine that the preset describes. The program runs on the compute vCPU.

Afterwards a line on standard error gives the dilation and the share of time in which the host was behind. A
share of more than 1 % is unreliable, and so is a dilation of more than 5,000; the exit status is 75 then.
python2.7 and 3.
"""

from __future__ import absolute_import, division, print_function

import argparse
import subprocess
import sys

import timing_client

MAX_BEHIND = 0.01  # share of time
MAX_DILATION = 5000  # beyond it the guest's timer interrupts add more than 1 %
MARGIN = 1.5  # over the sustained dilation, to catch up
UNRELIABLE = 75  # EX_TEMPFAIL


def run(command, dilation):
    """Run the command in a region of interest. Returns its exit status."""
    timing_client.pace(dilation)
    timing_client.region_begin()
    try:
        return subprocess.call(command)
    finally:
        timing_client.region_end()
        timing_client.pace(0)


def main():
    parser = argparse.ArgumentParser(prog="python3 -m paced", description=__doc__.splitlines()[0])
    parser.add_argument("--dilation", type=float, help="real ns per model ns (default: measured)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command or (options.dilation is not None and options.dilation < 1):
        parser.error("missing command" if not options.command else "the dilation must be at least 1")
    if not timing_client.modelled():
        parser.error("this machine has no timing model: start it with a preset")
    timing_client.compute()
    dilation = options.dilation
    if dilation is None:
        status = run(options.command, 0)
        if status:
            return status
        dilation = MARGIN * timing_client.host()[0]
    status = run(options.command, dilation)
    behind = timing_client.host()[1]
    verdict = "reliable"
    if behind > MAX_BEHIND:
        verdict = "UNRELIABLE: more than %.0f %%" % (100 * MAX_BEHIND)
    elif dilation > MAX_DILATION:
        verdict = "UNRELIABLE: beyond %d timer interrupts add more than 1 %%" % MAX_DILATION
    print("paced: dilation %.6g, behind for %.2f %% of the time (%s)" % (dilation, 100 * behind, verdict),
          file=sys.stderr)
    return status or (0 if verdict == "reliable" else UNRELIABLE)


if __name__ == "__main__":
    sys.exit(main())
