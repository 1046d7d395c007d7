"""schemathesis against the running agent, by its own document."""

import os
import subprocess
import unittest

from api import two_apps
from harness import ROOT, DeviceTest, wait_until

PROGRAM = os.environ.get("SCHEMATHESIS", os.path.join(ROOT, ".build/python/bin/schemathesis"))
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
# Streams never end by themselves; a device that goes down answers nothing more.
EXCLUDED = ["/v2/local/logs", "/v2/events", "/v2/journal-logs", "/v1/reboot", "/v1/shutdown"]


@unittest.skipUnless(os.path.exists(PROGRAM), "schemathesis is not installed (scripts/python-tools)")
class Schema(DeviceTest):
    def test_no_answer_that_the_document_does_not_describe(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3,
                   "three services run")
        command = [
            PROGRAM, "run", os.path.join(ROOT, "docs/openapi.json"), "--url", f"http://127.0.0.1:{agent.port}", "--seed", "5",
            "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing", "--workers", "1",
            "--checks", "status_code_conformance,content_type_conformance,response_schema_conformance",
            "--request-timeout", "60", "--generation-database", "none", "--no-color",
            "--suppress-health-check", "all",
        ]
        for path in EXCLUDED:
            command += ["--exclude-path", path]
        done = subprocess.run(command, capture_output=True, text=True, cwd=agent.directory, timeout=280,
                              stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])
        agent.assert_alive()
