"""POST /v2/journal-logs against journalctl on tens of thousands of odd entries in files."""

import json
import os
import shutil
import subprocess
import tempfile

import journal_files
from harness import DeviceTest
from test_journal import FORMATS, objects

ENTRIES = 20_000
WHOLE = ("short", "export", "verbose", "cat", "json", "short-monotonic")


class JournalFiles(DeviceTest):
    maxDiff = 2000

    def setUp(self):
        super().setUp()
        self.files = journal_files.make(
            tempfile.mkdtemp(prefix="journal-files-", dir=os.environ["SUPERVISOR_TEST_DIRECTORY"]), ENTRIES)
        self.addCleanup(shutil.rmtree, self.files)
        self.device = self.agent(start=False)
        self.device.start(journal_directory=self.files)

    def journalctl(self, *arguments):
        return subprocess.run(
            ["journalctl", "--directory", self.files, "--no-pager", *arguments], capture_output=True, check=False,
            timeout=120, env={**os.environ, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0"}).stdout

    def compare(self, form, options, arguments):
        answer = self.device.request("POST", "/v2/journal-logs", {"format": form, **options})
        self.assertEqual(answer.status, 200, answer.body[:200])
        expected = self.journalctl("-o", form, *arguments)
        if form.startswith("json"):
            self.assertEqual(len(answer.body), len(expected))
            got, wanted = objects(answer.body), objects(expected)
        else:
            got, wanted = answer.body, expected
        if got != wanted:
            first = next((place for place, (one, other) in enumerate(zip(got, wanted)) if one != other), -1)
            at = slice(max(0, first - 200), first + 200) if isinstance(got, bytes) else slice(first, first + 1)
            self.fail(f"differs at {first} of {len(got)} and {len(wanted)}:\n{got[at]!r}\n{wanted[at]!r}")

    def test_every_format_of_many_odd_entries_is_what_journalctl_prints(self):
        for form in FORMATS:
            for everything in (False, True):
                with self.subTest(form, all=everything):
                    count = [] if form in WHOLE else ["-n", "3000"]
                    options = {"all": everything, **({"count": 3000} if count else {})}
                    self.compare(form, options, ["--all"] * everything + count)

    def test_filters_and_times_choose_the_same_of_many_entries(self):
        times = sorted(int(json.loads(line)["__REALTIME_TIMESTAMP"])
                       for line in self.journalctl("-o", "json", "--output-fields=MESSAGE_ID").splitlines())
        self.assertEqual(len(times), ENTRIES)
        first, last = (f"@{times[ENTRIES * part // 4] / 1e6:.6f}" for part in (1, 3))
        for options, arguments in (
            ({"unit": "a.service"}, ["-u", "a.service"]),
            ({"unit": "a"}, ["-u", "a"]),
            ({"unit": "*.s*"}, ["-u", "*.s*"]),
            ({"unit": "nothing"}, ["-u", "nothing"]),
            ({"containerId": "ident2"}, ["-t", "ident2"]),
            ({"since": first, "until": last}, ["-S", first, "-U", last]),
            ({"since": last, "count": 100}, ["-S", last, "-n", "100"]),
            ({"until": first, "count": 100}, ["-U", first, "-n", "100"]),
            ({"unit": "b", "since": first, "count": 50}, ["-u", "b", "-S", first, "-n", "50"]),
            ({"priority": "warning"}, ["-p", "warning"]),
            ({"count": 19_999}, ["-n", "19999"]),
        ):
            for form in ("short-unix", "export"):
                with self.subTest(form, **options):
                    self.compare(form, options, arguments)
