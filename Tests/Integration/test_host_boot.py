"""Device configuration of a target: settings, boot configuration, the reboot that it asks for, and what must not happen."""

import os

from harness import DeviceTest, app, service, wait_until
from system_bus import SystemBus

FILE = """# For more options and information see
# http://rpf.io/configtxt

disable_splash=1
dtparam=i2c_arm=on,audio=on
  # the screen
dtoverlay=vc4-kms-v3d
dtparam=cma-256
gpu_mem=16

[pi4]
gpu_mem=128
max_framebuffers=2

[all]
enable_uart=1
include extra.txt
"""
CONFIG = {
    "BALENA_HOST_CONFIG_disable_splash": "1",
    "BALENA_HOST_CONFIG_dtparam": '"i2c_arm=on","audio=on"',
    "BALENA_HOST_CONFIG_dtoverlay": '"vc4-kms-v3d,cma-256"',
    "BALENA_HOST_CONFIG_gpu_mem": "16",
    "BALENA_HOST_CONFIG_enable_uart": "1",
}


class Boot(DeviceTest):
    def device(self, content=FILE, **options):
        agent = self.agent(start=False)
        self.write(agent, "boot/device-type.json", '{"slug":"raspberrypi4-64","arch":"aarch64"}')
        self.write(agent, "boot/config.txt", content)
        self.bus = SystemBus(self, agent.directory)
        return agent.start(dbus_address=self.bus.address, **options)

    def write(self, agent, name, text):
        with open(agent.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def content(self, agent, name="boot/config.txt"):
        with open(agent.path(name), encoding="utf-8") as file:
            return file.read()

    def target(self, agent, config, *services):
        answer = agent.request("POST", "/v2/local/target-state",
                               {"local": {"name": "local", "config": config, "apps": app(*services) if services else {}}})
        self.assertEqual(answer.status, 200, answer.text)

    def test_a_target_that_says_what_the_file_says_touches_nothing(self):
        agent = self.device()
        before = os.stat(agent.path("boot/config.txt"))
        self.target(agent, CONFIG, service("one"))
        self.wait_for_services(agent, "one")
        after = os.stat(agent.path("boot/config.txt"))
        self.assertEqual((after.st_ino, after.st_mtime_ns), (before.st_ino, before.st_mtime_ns))
        self.assertEqual(self.bus.calls, [])
        self.assertFalse(os.path.exists(agent.path("host/tmp/balena-supervisor/reboot-after-apply")))

    def test_one_changed_option_changes_one_line_then_services_run_and_the_device_reboots(self):
        agent = self.device()
        self.target(agent, {**CONFIG, "BALENA_HOST_CONFIG_gpu_mem": "64"}, service("one"))
        wait_until(lambda: self.bus.calls == ["Reboot 0"], "the reboot is asked for")
        self.assertEqual(self.content(agent), FILE.replace("gpu_mem=16\n", "gpu_mem=64\n"))
        self.assertEqual(sorted(self.engine.service_containers(1)), ["one"])
        self.assertIn("Reboot has been scheduled to apply changes: {}", agent.log)
        self.assertIn('Applied boot config: {"disable_splash":"1"', agent.log)

    def test_the_reboot_waits_for_a_lock_and_forbidden_options_stay(self):
        agent = self.device(FILE + "kernel=mine.img\n")
        directory = agent.path("host/tmp/balena-supervisor/services/1/one")
        os.makedirs(directory)
        lock = os.path.join(directory, "updates.lock")
        self.target(agent, CONFIG, service("one"))
        self.wait_for_services(agent, "one")
        self.write(agent, "host/tmp/balena-supervisor/services/1/one/updates.lock", "")
        self.target(agent, {**CONFIG, "BALENA_HOST_CONFIG_enable_uart": "0", "BALENA_HOST_CONFIG_kernel": "other.img"},
                    service("one"))
        wait_until(lambda: "Lockfile exists for { appId: 1, service: one }" in agent.log, "the lock is told of")
        self.assertEqual(self.content(agent), (FILE + "kernel=mine.img\n").replace("uart=1", "uart=0"))
        self.assertIn("Attempt to change blacklisted config value kernel", agent.log)
        self.assertEqual(self.bus.calls, [])
        os.unlink(lock)
        wait_until(lambda: self.bus.calls == ["Reboot 0"], "the reboot is asked for")

    def test_a_change_that_never_sticks_is_given_up_after_three_tries(self):
        agent = self.device()
        wanted = {**CONFIG, "BALENA_HOST_CONFIG_gpu_mem": "64"}
        self.target(agent, wanted)
        for number in range(1, 4):
            wait_until(lambda: self.bus.calls == ["Reboot 0"], f"reboot {number} is asked for")
            agent.kill()
            # The device comes up and something has put the old file back.
            self.bus.stop()
            self.bus.start()
            os.unlink(agent.path("host/tmp/balena-supervisor/reboot-after-apply"))
            self.write(agent, "boot/config.txt", FILE)
            # It may be gone again before it answers.
            agent.start(wait=number == 3, dbus_address=self.bus.address)
        self.target(agent, wanted, service("one"))
        self.wait_for_services(agent, "one")
        self.assertIn("given up after 3 tries", agent.log)
        self.assertEqual(self.content(agent), FILE)
        self.assertEqual(self.bus.calls, [])

    def test_persistent_logging_is_written_to_the_configuration_and_needs_a_reboot(self):
        agent = self.device()
        self.target(agent, {**CONFIG, "BALENA_SUPERVISOR_PERSISTENT_LOGGING": "true"})
        wait_until(lambda: self.bus.calls == ["Reboot 0"], "the reboot is asked for")
        self.assertIn('"persistentLogging":true', self.content(agent, "boot/config.json"))
        self.assertIn('Reboot has been scheduled to apply changes: {"persistentLogging":"true"}', agent.log)
