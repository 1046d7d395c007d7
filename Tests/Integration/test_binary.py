"""The release binary itself."""

import unittest

from harness import DeviceTest, app, required, run, service, wait_until


class Binary(unittest.TestCase):
    def test_the_release_binary_has_no_symbol_of_foundation_or_of_its_tables_of_languages(self):
        symbols = run(["nm", "--defined-only", required("SUPERVISOR_TEST_UNSTRIPPED")])
        self.assertIn("10Supervisor", symbols)
        for name in ("$s10Foundation", "$s29FoundationInternationalization", "uloc_", "u_charsToUChars"):
            self.assertNotIn(name, symbols)

    def test_it_needs_only_shared_libraries_of_the_system(self):
        needed = run(["readelf", "--dynamic", required("SUPERVISOR_TEST_BINARY")])
        for name in ("libswift", "libFoundation", "lib_Foundation", "libdispatch", "libicu"):
            self.assertNotIn(name, needed)

    def test_the_stripped_binary_has_no_symbol_table(self):
        sections = run(["readelf", "--section-headers", required("SUPERVISOR_TEST_BINARY")])
        self.assertNotIn(".symtab", sections)


class Process(DeviceTest):
    def test_it_has_one_thread_and_no_child_with_two_services_running(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        self.wait_for_services(agent, "one", "two")
        for path in ("/ping", "/v2/state/status", "/v2/local/device-info", "/v2/local/target-state"):
            self.assertEqual(agent.get(path).status, 200)
        self.assertEqual(agent.process_status("Threads"), 1)
        with open(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children", encoding="utf-8") as file:
            self.assertEqual(file.read(), "")

    def test_with_two_services_running_its_anonymous_memory_is_at_most_4_mb_and_its_pss_14_mb(self):
        agent = self.agent()
        agent.post_target(app(service("one"), service("two", number=2)))
        self.wait_for_services(agent, "one", "two")
        self.assertLessEqual(agent.memory()["Anonymous"], 4 * 1024)
        # The program text that only the start needs goes back to the kernel once the device is quiet.
        wait_until(lambda: agent.memory()["Pss"] <= 14 * 1024, "a PSS of at most 14 MB")
        self.assertEqual(agent.get("/ping").text, "OK")
