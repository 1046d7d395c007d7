"""The search for secrets that ends each run of the tests finds them."""

import base64
import os
import tempfile
import unittest

import disclosure

KEY = "0123456789abcdef0123456789abcdef"
SECRETS = {KEY: "deviceApiKey", "password-of-a-registry": "password of the registry"}


class Search(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = folder.name

    def write(self, path, text, mode=0o600):
        path = os.path.join(self.directory, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def found(self):
        return disclosure.Findings(self.directory, secrets=SECRETS).lines

    def test_a_secret_is_found_with_its_file_line_and_name_and_is_not_told(self):
        self.write("agents/1-x/log", f"one\ntwo Bearer {KEY}, three\n")
        self.write("produced/answers", "[GET /v2/metrics 200] fine\n[GET /x 500] password-of-a-registry\n")
        self.write("engine/dockerd.log", f"one\n\n{KEY}")
        lines = self.found()
        self.assertEqual(sorted(lines), [
            "agents/1-x/log:2: deviceApiKey", "engine/dockerd.log:3: deviceApiKey",
            "produced/answers:2: password of the registry"])

    def test_a_secret_that_stands_in_other_texts_by_chance_is_an_error_of_its_test(self):
        for value in ("d" * 32, "cd" * 16, "abcdeabcde"):
            with self.assertRaises(ValueError) as caught:
                disclosure.secret("deviceApiKey", value)
            self.assertNotIn(value, str(caught.exception))
        disclosure.secret("deviceApiKey", "short")

    def test_what_stands_around_a_finding_is_shown_with_its_writer_and_without_the_secret(self):
        self.write("produced/journal", '{"MESSAGE":"key=%s;","_COMM":"dockerd","CONTAINER_NAME":"main_1"}\n' % KEY)
        findings = disclosure.Findings(self.directory, secrets=SECRETS)
        around = findings.around[findings.lines[0]]
        self.assertIn("key=***;", around)
        self.assertIn("'CONTAINER_NAME': 'main_1'", around)
        self.assertNotIn(KEY, around)

    def test_a_secret_in_base64_is_found_wherever_it_begins_in_it(self):
        for number, name in enumerate(("", "d", "d_", "d_a:", "d_ab:")):
            text = base64.b64encode(f"{name}{KEY}, and more".encode()).decode()
            self.write(f"agents/{number}-x/log", f"Basic {text}")
        self.assertEqual(sorted(self.found()), [f"agents/{number}-x/log:1: deviceApiKey" for number in range(5)])

    def test_a_secret_may_be_where_it_belongs_when_nobody_else_can_read_that(self):
        for name in ("boot/config.json", "boot/.config.json.afb93c48.870b14708b09917f40ea514405f74236.md5sum",
                     "config.json.last-good", "database.sqlite", "database.sqlite-wal",
                     "former-identities.json", "host/tmp/balena-supervisor/state-report-cache",
                     "host/tmp/balena-supervisor/state-report-cache.new"):
            self.write(f"agents/1-x/{name}", KEY)
        self.assertEqual(self.found(), [])
        self.write("agents/1-x/former-identities.json", KEY, 0o644)
        self.assertEqual(self.found(), ["agents/1-x/former-identities.json: others may read it"])

    def test_what_a_cloud_is_told_may_have_the_key_that_it_is_to_be_told_only(self):
        self.assertNotIn(KEY.encode(), disclosure.REPORTED.sub(b"", f'{{"api_secret":"{KEY}"}}'.encode()))
        self.assertIn(KEY.encode(), disclosure.REPORTED.sub(b"", f'{{"message":"{KEY}"}}'.encode()))
