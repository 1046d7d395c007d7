#!/usr/bin/python3
"""A small service on the bus of the tests: stands in for logind and for the service manager's jobs.

Calls that it gets are written to standard output, one a line. Arguments after the bus: `no-logind`, `preparing`
(logind goes down already), and of units
`UNIT=STATE`, `UNIT=missing`, `UNIT=failing`, `UNIT=hanging`, `UNIT<TARGET` (part of it)."""

import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
MANAGER = "org.freedesktop.systemd1.Manager"
LOGIN = "org.freedesktop.login1.Manager"
JOB = "/org/freedesktop/systemd1/job/"
JOB_RESULTS = {"failing": "failed", "hanging": None}
asked = {word.partition("=")[0]: word.partition("=")[2] for word in sys.argv[2:] if "=" in word}
groups = {word.partition("<")[0]: word.partition("<")[2] for word in sys.argv[2:] if "<" in word}


def note(*words):
    print(*words, flush=True)


def path_of(name):
    return "/org/freedesktop/systemd1/unit/" + name.replace(".", "_2e").replace("-", "_2d")


class Unit(dbus.service.Object):
    def __init__(self, path, **properties):
        super().__init__(bus, path)
        self.properties = properties

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        return self.properties[name]


class Missing(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.systemd1.NoSuchUnit"


class Refused(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.DBus.Error.AccessDenied"


class Destructive(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.systemd1.TransactionIsDestructive"


class Masked(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.systemd1.UnitMasked"


class NoFile(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.DBus.Error.FileNotFound"


class Manager(dbus.service.Object):
    jobs = 0
    conflicts = 1
    results = {}

    @dbus.service.method(MANAGER)
    def Subscribe(self):
        note("Subscribe")

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def GetUnit(self, name):
        if name in ("missing.service", "on-disk.service") or asked.get(name) == "missing":
            raise Missing(f"Unit {name} not loaded.")
        return path_of(name)

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def LoadUnit(self, name):
        return path_of(name)

    def job(self, verb, name, mode):
        note(verb, name, mode)
        if name == "missing.service" or asked.get(name) == "missing":
            raise Missing(f"Unit {name} not found.")
        if name == "conflict.service" and self.conflicts:
            self.conflicts -= 1
            raise Destructive("Transaction is destructive.")
        Manager.jobs += 1
        number, path = Manager.jobs, f"{JOB}{Manager.jobs}"
        kind = asked.get(name, name.partition(".")[0])
        result = Manager.results.get(name, JOB_RESULTS.get(kind, "done"))
        if result == "done" and path_of(name) in units:
            units[path_of(name)].properties["ActiveState"] = "inactive" if verb == "StopUnit" else "active"
        if name == "immediate.service":
            # The signal follows the answer in the same write.
            GLib.idle_add(lambda: self.JobRemoved(number, path, name, result) and False)
        elif result:
            GLib.timeout_add(50, lambda: self.JobRemoved(number, path, name, result) and False)
        return path

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StartUnit(self, name, mode):
        return self.job("StartUnit", name, mode)

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, mode):
        return self.job("StopUnit", name, mode)

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def RestartUnit(self, name, mode):
        return self.job("RestartUnit", name, mode)

    enabled = set()

    @dbus.service.method(MANAGER, in_signature="asbb", out_signature="ba(sss)", async_callbacks=("answer", "fail"))
    def EnableUnitFiles(self, names, runtime, force, answer, fail):
        note("EnableUnitFiles", *names, int(runtime), int(force))
        if "hanging.service" in names:
            return
        if "missing.service" in names:
            fail(NoFile("Unit file missing.service does not exist."))
        elif "gone.service" in names:
            fail(Missing("Unit gone.service does not exist."))
        elif "masked.service" in names:
            fail(Masked("Unit masked.service is masked."))
        elif "forbidden.service" in names:
            fail(Refused("Access denied"))
        else:
            links = [("symlink", f"/etc/systemd/system/multi-user.target.wants/{name}", f"/lib/systemd/system/{name}")
                     for name in names if name != "plain.service" and name not in self.enabled]
            self.enabled.update(names)
            answer("plain.service" not in names, dbus.Array(links, signature="(sss)"))

    @dbus.service.method(MANAGER)
    def Reload(self):
        note("Reload")

    @dbus.service.method(MANAGER)
    def Reboot(self):
        note("systemd Reboot")

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass


class Login(dbus.service.Object):
    inhibitors = []

    @dbus.service.method(LOGIN, out_signature="a(ssssuu)")
    def ListInhibitors(self):
        return dbus.Array(self.inhibitors, signature="(ssssuu)")

    @dbus.service.method(LOGIN, in_signature="b")
    def Reboot(self, interactive):
        note("Reboot", int(interactive))

    @dbus.service.method(LOGIN, in_signature="b")
    def PowerOff(self, interactive):
        raise Refused("Operation inhibited")

    @dbus.service.method(LOGIN, out_signature="s")
    def CanReboot(self):
        return "yes"

    preparing = "preparing" in sys.argv

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        return {"PreparingForShutdown": dbus.Boolean(self.preparing)}[name]

    @dbus.service.method("test.Control", in_signature="b")
    def Prepare(self, beginning):
        self.preparing = beginning
        self.PrepareForShutdown(beginning)

    @dbus.service.method("test.Control", in_signature="ss")
    def Inhibit(self, what, mode):
        self.inhibitors = [(what, "backup", "copies the disk", mode, 0, 1)]

    @dbus.service.method(LOGIN, in_signature="t")
    def PowerOffWithFlags(self, flags):
        note("PowerOffWithFlags", flags)

    @dbus.service.method("test.Control", in_signature="ss")
    def EndJobs(self, unit, result):
        Manager.results[unit] = result

    @dbus.service.method("test.Control", async_callbacks=("answer", "fail"))
    def Hang(self, answer, fail):
        note("Hang")

    @dbus.service.method("test.Control", in_signature="a(sv)ybnqiuxtdog", out_signature="a(sv)ybnqiuxtdog")
    def Echo(self, a, b, c, d, e, f, g, h, i, j, k, l):
        return a, b, c, d, e, f, g, h, i, j, k, l

    @dbus.service.signal(LOGIN, signature="b")
    def PrepareForShutdown(self, beginning):
        pass


names = [dbus.service.BusName("org.freedesktop.systemd1", bus)]
if "no-logind" not in sys.argv:
    names.append(dbus.service.BusName("org.freedesktop.login1", bus))
    login = Login(bus, "/org/freedesktop/login1")
manager = Manager(bus, "/org/freedesktop/systemd1")


def unit(name, state="active", **properties):
    if asked.get(name) == "missing":
        properties["LoadState"] = "not-found"
    elif name in asked and asked[name] not in JOB_RESULTS:
        state = asked[name]
    part_of = dbus.Array([groups[name]] if name in groups else [], signature="s")
    return Unit(path_of(name), **{"ActiveState": state, "LoadState": "loaded", "PartOf": part_of, **properties})


units = {unit._object_path: unit for unit in (
    unit("openvpn.service", PartOf=dbus.Array(["redsocks-conf.target"], signature="s")),
    *(unit(name) for name in (
        "balena-proxy-config.service", "resin-proxy-config.service", "redsocks.service",
        "avahi-daemon.service", "avahi-daemon.socket")),
    unit("on-disk.service", "inactive"),
    unit("missing.service", "inactive", LoadState="not-found"),
    unit("hanging.service", "activating"),
)}
note("ready")
GLib.MainLoop().run()
