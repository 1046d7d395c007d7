"""Lights as libudev tells of them: which one is taken, those that come and go while one blinks."""

import os
import shlex
import signal
import subprocess

from harness import DeviceTest, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
USUAL = {"brightness": "7", "max_brightness": "255", "trigger": "none [heartbeat] timer"}


class Lights(DeviceTest):
    def setUp(self):
        super().setUp()
        self.bed = subprocess.Popen(
            ["umockdev-wrapper", "/usr/bin/python3", "-B", os.path.join(HERE, "led_testbed.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end_bed)
        self.root = self.bed.stdout.readline().strip()
        self.assertTrue(os.path.isdir(self.root), self.root)

    def end_bed(self):
        self.bed.stdin.close()
        self.bed.wait(timeout=30)
        self.bed.stdout.close()

    def tell(self, *words):
        self.bed.stdin.write(shlex.join(words) + "\n")
        self.bed.stdin.flush()
        self.assertEqual(self.bed.stdout.readline().strip(), "done")

    def add(self, name, **attributes):
        attributes = {**USUAL, **attributes}
        self.tell("add", name, *(f"{key}={value}" for key, value in attributes.items() if value is not None))

    def read(self, name, attribute):
        with open(f"{self.root}/sys/devices/{name}/{attribute}", encoding="utf-8") as file:
            return file.read().strip()

    def start(self):
        device = self.agent(start=False)
        device.start(environment={"LD_PRELOAD": "libumockdev-preload.so.0", "UMOCKDEV_DIR": self.root})
        return device

    def wait_for_blinks(self, device, name, full="255"):
        answer = device.request("POST", "/v1/blink")
        self.assertEqual((answer.status, answer.text), (200, ""))
        for value in (full, "0", full):
            # It goes on for 15 s from here.
            device.request("POST", "/v1/blink")
            wait_until(lambda value=value: self.read(name, "brightness") == value, f"{name} is at {value}")

    def is_at_rest(self, name):
        return (self.read(name, "trigger"), self.read(name, "brightness")) == (USUAL["trigger"], USUAL["brightness"])

    def was_given_back(self, name):
        """The kernel would list the triggers again; the testbed keeps what was written."""
        return (self.read(name, "trigger"), self.read(name, "brightness")) == ("heartbeat", "7")

    def test_a_light_that_comes_while_the_device_is_identified_joins_and_another_takes_over_when_it_goes(self):
        device = self.start()
        self.assertEqual(device.request("POST", "/v1/blink").status, 200)
        self.add("led0")
        self.wait_for_blinks(device, "led0")
        self.assertEqual(self.read("led0", "trigger"), "none")
        self.tell("remove", "led0")
        self.add("ACT")
        self.wait_for_blinks(device, "ACT")
        device.kill(signal.SIGTERM)
        self.assertTrue(self.was_given_back("ACT"))

    def test_the_light_that_is_preferred_is_taken_and_the_others_are_left_alone(self):
        for name in ("input0::capslock", "led0", "ACT"):
            self.add(name)
        device = self.start()
        self.wait_for_blinks(device, "led0")
        self.assertTrue(self.is_at_rest("ACT") and self.is_at_rest("input0::capslock"))
        device.kill(signal.SIGTERM)
        self.assertTrue(self.was_given_back("led0"))

    def test_a_light_without_a_trigger_and_without_levels_blinks(self):
        self.add("led0", trigger=None, max_brightness=None, brightness="0")
        device = self.start()
        self.wait_for_blinks(device, "led0", full="1")
        device.kill(signal.SIGTERM)
        self.assertEqual(self.read("led0", "brightness"), "0")
        self.assertFalse(os.path.exists(f"{self.root}/sys/devices/led0/trigger"))
