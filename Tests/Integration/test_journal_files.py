"""POST /v2/journal-logs against journalctl on tens of thousands of odd entries in files."""

import datetime
import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import zoneinfo

import journal_files
from harness import DeviceTest
from test_journal import FORMATS, objects

ENTRIES = 20_000
# Of the product of formats, filters and times so many are compared, another choice each time; `all` for every one:
#   TEST_LIMIT_SECONDS=1200 JOURNAL_COMBINATIONS=all INTEGRATION_OPTIONS="-k combination" scripts/run-tests integration
COMBINATIONS = os.environ.get("JOURNAL_COMBINATIONS", "150")
# A failure is repeated with the seed that it names.
SEED = int(os.environ.get("JOURNAL_SEED") or random.SystemRandom().randrange(1 << 32))
FILTERS = (
    ({}, []), ({"unit": "a"}, ["-u", "a"]), ({"unit": "x-y.slice"}, ["-u", "x-y.slice"]),
    ({"unit": "[ab].s*"}, ["-u", "[ab].s*"]), ({"unit": "nothing"}, ["-u", "nothing"]),
    ({"containerId": "ident1"}, ["-t", "ident1"]), ({"containerId": "nobody"}, ["-t", "nobody"]),
    ({"unit": "b", "containerId": "ident2"}, ["-u", "b", "-t", "ident2"]), ({"priority": "err"}, ["-p", "err"]),
    ({"priority": 5, "unit": "a*"}, ["-p", "5", "-u", "a*"]),
    ({"priority": "info", "containerId": "ident3"}, ["-p", "info", "-t", "ident3"]),
)
WHOLE = ("short", "export", "verbose", "cat", "json", "short-monotonic")


class FilesTest(DeviceTest):
    maxDiff = 2000
    ENTRIES = ENTRIES

    def setUp(self):
        super().setUp()
        self.files = journal_files.make(
            tempfile.mkdtemp(prefix="journal-files-", dir=os.environ["SUPERVISOR_TEST_DIRECTORY"]), self.ENTRIES)
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


class JournalFiles(FilesTest):
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


class JournalCombinations(FilesTest):
    ENTRIES = 3000

    def times(self):
        """Options and what they are for journalctl: bounds of every kind of expression, and counts."""
        moments = sorted(int(json.loads(line)["__REALTIME_TIMESTAMP"]) / 1e6
                         for line in self.journalctl("-o", "json", "--output-fields=MESSAGE_ID").splitlines())
        self.assertEqual(len(moments), self.ENTRIES)
        first, middle, last = (moments[len(moments) * part // 8] for part in (2, 4, 6))

        def written(moment, form, zone="UTC"):
            return datetime.datetime.fromtimestamp(moment, zoneinfo.ZoneInfo(zone)).strftime(form)

        days = int((time.time() - middle) / 86400)
        sinces = (
            None, f"@{first:.6f}", written(first, "%Y-%m-%d"), written(first, "%Y-%m-%d %H:%M:%S UTC"),
            written(first, "%a %Y-%m-%d %H:%M") + " Europe/Berlin", written(first, "%y-%m-%d %H:%M:%S.25"),
            f"-{days}d", f"{days} days 3h ago", "@0", "yesterday")
        untils = (
            None, f"@{last:.3f}", written(last, "%a %Y-%m-%d UTC"),
            written(last, "%Y-%m-%d %H:%M:%S America/New_York", "America/New_York"), f"{days - 1} days ago", "today",
            f"-{days - 2}d 1h")
        for since, until, count in itertools.product(sinces, untils, (None, 1, 37)):
            options = {"since": since, "until": until, "count": count}
            pairs = (("-S", since), ("-U", until), ("-n", count and str(count)))
            yield ({name: value for name, value in options.items() if value},
                   [word for name, value in pairs if value for word in (name, value)])

    def compare_all(self, product):
        for form, everything, (filters, words), (times, bounds) in product:
            with self.subTest(form, all=everything, seed=SEED, **filters, **times):
                # journalctl refuses what begins behind its end, and so does the agent, with words.
                arguments = ["--all"] * everything + words + bounds
                options = {"all": everything, **filters, **times}
                if times.get("since") == "yesterday" and times.get("until") not in (None, "today"):
                    answer = self.device.request("POST", "/v2/journal-logs", {"format": form, **options})
                    self.assertEqual(answer.status, 400)
                    self.assertEqual(self.journalctl("-o", form, *arguments), b"")
                else:
                    self.compare(form, options, arguments)

    def test_a_choice_of_combinations_is_what_journalctl_prints(self):
        product = list(itertools.product(FORMATS, (False, True), FILTERS, self.times()))
        number = 150 if COMBINATIONS == "all" else int(COMBINATIONS)
        print(f"{number} of {len(product)} combinations, JOURNAL_SEED={SEED}", flush=True)
        self.compare_all(random.Random(SEED).sample(product, number))


def add_combinations(form, everything):
    """A test has a limit of time: each takes one part."""
    def test(self):
        self.compare_all(itertools.product((form,), (everything,), FILTERS, self.times()))

    name = f"test_combinations_of_{form.replace('-', '_')}{'_all' * everything}_are_what_journalctl_prints"
    setattr(JournalCombinations, name, test)


if COMBINATIONS == "all":
    for part in itertools.product(FORMATS, (False, True)):
        add_combinations(*part)
