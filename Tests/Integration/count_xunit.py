#!/usr/bin/env python3
"""Sums the tests of xUnit files: prints `PASSED FAILED`, then the name of each test that failed."""

import sys
import xml.etree.ElementTree as xml

passed = 0
failed = []
for path in sys.argv[1:]:
    try:
        cases = list(xml.parse(path).getroot().iter("testcase"))
    except (OSError, xml.ParseError):
        continue
    for case in cases:
        if case.find("skipped") is not None:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        else:
            passed += 1
print(passed, len(failed))
print("".join(f"FAILED {name}\n" for name in failed), end="")
