#!/usr/bin/env python3
"""Sums the tests of xUnit files: prints `PASSED FAILED`."""

import sys
import xml.etree.ElementTree as xml

passed = failed = 0
for path in sys.argv[1:]:
    try:
        cases = list(xml.parse(path).getroot().iter("testcase"))
    except (OSError, xml.ParseError):
        continue
    for case in cases:
        if case.find("skipped") is not None:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
print(passed, failed)
