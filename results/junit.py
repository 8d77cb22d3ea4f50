# SPDX-License-Identifier: Apache-2.0
"""JUnit XML, as CI systems read it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from results.units import without_control


def case(suite: ET.Element, group: str, name: str) -> ET.Element:
    """Add a test case to a suite."""
    return ET.SubElement(suite, "testcase", classname=without_control(group), name=without_control(name))


def document(root: ET.Element) -> str:
    """Return the text of a file."""
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
