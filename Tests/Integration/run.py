#!/usr/bin/env python3
"""Runs the integration tests on a device that scripts/test-device has started.

    run.py [--count FILE] [-k PATTERN] [--part N/M]     writes `PASSED FAILED` to FILE

With `--part`, the N-th of M parts of about the same length, for several devices at the same time.
"""

import argparse
import os
import signal
import sys
import time
import unittest

# The unit tests' length, in tests of a device without a cloud.
OTHER_TESTS = 70
TEST_LIMIT_SECONDS = int(os.environ.get("TEST_LIMIT_SECONDS", "600"))
# Of an agent's log, when failures are told once more at the end.
RETOLD_LINES = 25


class Sentences(unittest.TestResult):
    """Prints each test's name as a sentence, and the agents' logs of a test that failed."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        signal.alarm(TEST_LIMIT_SECONDS)

    def line(self, mark, test):
        name = getattr(test, "_testMethodName", str(test)).removeprefix("test_").replace("_", " ")
        subject = type(test).__module__.removeprefix("test_").replace("_", " ")
        print(f"{mark} {subject}: {name} ({time.monotonic() - self.began:.1f} s)", flush=True)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line("ok  ", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.report(test, self.failures[-1][1])

    def addError(self, test, error):
        super().addError(test, error)
        self.report(test, self.errors[-1][1])

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.report(test, f"{subtest}\n{self._exc_info_to_string(error, subtest)}")

    @property
    def failed(self):
        """Identifiers of tests, and of classes that could not be set up, that failed."""
        return {getattr(test, "test_case", test).id() for test, _ in self.failures + self.errors}

    def report(self, test, text):
        self.began = getattr(self, "began", time.monotonic())
        self.line("FAIL", test)
        print("    " + text.strip().replace("\n", "\n    "))
        retold = [f"{test.id()}: {text.strip().splitlines()[-1]}"]
        for agent in getattr(test, "agents", []):
            if os.path.exists(agent.log_path):
                # A waiting test asks so often that its own requests would push everything else out.
                tail = [line for line in agent.log.splitlines() if "[debug]   GET " not in line][-60:]
                print("    the agent's log:\n      " + "\n      ".join(tail), flush=True)
                retold += ["  " + line[:200] for line in tail[-RETOLD_LINES:]]
        self.retold = [*getattr(self, "retold", []), *retold]


def overdue(*_):
    raise AssertionError(f"not finished within {TEST_LIMIT_SECONDS} s")


def classes(suite):
    for member in suite:
        if isinstance(member, unittest.TestSuite) and any(isinstance(each, unittest.TestSuite) for each in member):
            yield from classes(member)
        elif isinstance(member, unittest.TestSuite):
            if member.countTestCases():
                yield member
        else:
            yield unittest.TestSuite([member])


def part_of(suite, text):
    """Classes stay whole; the longest are dealt out first. The first part's device has other tests to run, too."""
    number, parts = (int(word) for word in text.split("/"))
    dealt = [[0 if part else OTHER_TESTS, []] for part in range(parts)]
    for group in sorted(classes(suite), key=lambda group: -length(group)):
        least = min(dealt, key=lambda part: part[0])
        least[0] += length(group)
        least[1].append(group)
    return unittest.TestSuite(dealt[number - 1][1])


def length(group):
    """Roughly: a device below a cloud reports every ten seconds at most."""
    bases = {base.__name__ for test in group for base in type(test).__mro__}
    return group.countTestCases() * (5 if "CloudTest" in bases else 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count")
    parser.add_argument("-k", action="append", dest="patterns")
    parser.add_argument("--part", default="1/1")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, overdue)

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    sys.dont_write_bytecode = True
    import disclosure
    directory = os.environ["SUPERVISOR_TEST_DIRECTORY"]
    disclosure.begin(directory)
    loader = unittest.TestLoader()
    if options.patterns:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in options.patterns]
    suite = loader.discover(here, pattern="test_*.py", top_level_dir=here)
    result = Sentences()
    part_of(suite, options.part).run(result)
    findings = disclosure.Findings(directory, os.environ.get("SUPERVISOR_TEST_JOURNAL"))
    disclosed = ["disclosure.secrets"] if findings.lines else []
    for line in findings.lines[:100]:
        print(f"FAIL a secret is disclosed: {line} {findings.around.get(line, '')}")
    print(f"secrets: {findings.secrets} in {findings.size >> 20} MiB: {len(findings.lines)} found", flush=True)
    failed = len(result.failed) + len(disclosed)
    passed = result.testsRun - len({name for name in result.failed if name.startswith("test_")})
    if options.count:
        with open(options.count, "w", encoding="utf-8") as file:
            file.write(f"{passed} {failed}\n")
            file.writelines(f"FAILED {name}\n" for name in [*sorted(result.failed), *disclosed])
        with open(f"{options.count}.failures", "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in getattr(result, "retold", []))
    print(f"integration: {passed} passed, {failed} failed", flush=True)
    return 0 if failed == 0 and passed > 0 else 1


sys.exit(main())
