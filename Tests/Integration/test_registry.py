"""Images come from a real registry."""

import os
import tarfile
import tempfile
import threading
import time

from harness import IMAGE, ROOT, DeviceTest, app, required, run, service, wait_until


class Registry(DeviceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.address = required("SUPERVISOR_TEST_REGISTRY")
        port = cls.address.rpartition(":")[2]
        cls.small = run([f"{ROOT}/scripts/registry", "push", port, cls.engine.address, IMAGE, "tests/small:1"]).strip()
        cls.make_large_image("large:1")
        cls.large = run([f"{ROOT}/scripts/registry", "push", port, cls.engine.address, "large:1", "tests/large:1"]).strip()

    @classmethod
    def make_large_image(cls, name):
        """Large enough for its pull to be seen: the test image with 96 MB that do not compress."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "image.tar")
            with tarfile.open(path, "w") as archive:
                filling = os.path.join(directory, "filling")
                with open(filling, "wb") as file:
                    file.write(os.urandom(96 * 1024 * 1024))
                archive.add(filling, "filling")
                archive.add("/bin/busybox", "bin/busybox")
                for applet in ("sh", "sleep"):
                    link = tarfile.TarInfo(f"bin/{applet}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    archive.addfile(link)
            repository, tag = name.split(":")
            with open(path, "rb") as body:
                answer = cls.engine.request(
                    "POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", body,
                    {"Content-Type": "application/x-tar", "Content-Length": str(os.path.getsize(path))}, timeout=120)
            assert "sha256:" in answer.text, answer.text

    def forget_images(self):
        self.engine.clean()
        for image in self.engine.get("/images/json"):
            for name in (image["RepoTags"] or []) + (image["RepoDigests"] or []):
                if name.startswith(self.address) or name == "large:1":
                    self.engine.request("DELETE", f"/images/{name}?force=1")

    def setUp(self):
        super().setUp()
        self.forget_images()

    def test_an_image_named_by_digest_is_pulled_and_runs(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.small)))
        self.wait_for_services(agent, "one")
        self.assertTrue(self.engine.has_image(self.small))

    def test_an_image_named_by_tag_is_pulled_and_runs(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=f"{self.address}/tests/small:1")))
        self.wait_for_services(agent, "one")

    def test_the_progress_of_a_pull_is_seen_in_the_state(self):
        agent = self.agent()
        samples, done = [], threading.Event()

        def watch():
            while not done.is_set():
                status = agent.status()
                samples.extend(
                    (row["status"], row["downloadProgress"], status["appState"], status["overallDownloadProgress"])
                    for row in status["images"] if row["serviceName"] == "one")
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            agent.post_target(app(service("one", image=self.large)))
            self.wait_for_services(agent, "one")
        finally:
            done.set()
            watcher.join()
        downloading = [sample for sample in samples if sample[0] == "Downloading"]
        self.assertGreater(len(downloading), 3, samples)
        progress = [sample[1] for sample in downloading]
        self.assertTrue(all(type(value) is int and 0 <= value <= 100 for value in progress), progress)
        self.assertTrue(any(0 < value < 100 for value in progress), progress)
        self.assertEqual(progress, sorted(progress))
        self.assertEqual({sample[2] for sample in downloading}, {"applying"})
        wait_until(lambda: [row["status"] for row in agent.status()["images"]] == ["Downloaded"], "it is downloaded")
        self.assertIsNone(agent.status()["overallDownloadProgress"])

    def test_the_old_release_runs_on_while_the_new_image_is_pulled(self):
        agent = self.agent()
        agent.post_target(app(service("one", image=self.small)))
        before = self.wait_for_services(agent, "one")["one"]["Id"]
        agent.post_target(app(service("one", image=self.large, number=2), commit="bbbb", release_id=2))

        def is_downloading():
            return any(row["status"] == "Downloading" for row in agent.status()["images"])

        def meanwhile():
            return is_downloading() and (rows := self.engine.service_containers(1)) and is_downloading() and rows

        containers = wait_until(meanwhile, "the image is pulled")
        self.assertEqual((containers["one"]["Id"], containers["one"]["State"]["Running"]), (before, True))
        wait_until(
            lambda: self.engine.service_containers(1).get("one", {"Id": before})["Id"] != before, "the new one runs")
        self.wait_for_services(agent, "one")

    def test_an_image_that_does_not_exist_is_tried_again_and_holds_up_nothing_else(self):
        agent = self.agent()
        agent.post_target(
            app(service("one", image=f"{self.address}/tests/none:1"), app_id=1) | app(service("two"), app_id=2))
        wait_until(lambda: "two" in self.engine.service_containers(2), "the other app runs")
        self.assertEqual(agent.status()["appState"], "applying")
        self.assertEqual(self.engine.service_containers(1), {})
        agent.post_target(app(service("one"), app_id=1) | app(service("two"), app_id=2))
        wait_until(lambda: "one" in self.engine.service_containers(1), "the app runs with an image that exists")
