import CSystemd
import EventLoop
import Glibc
import Logging
import SystemBus
import TestSupport

/// A real bus of its own, with a small service that stands in for logind and the service manager.
final class BusFixture {
  let directory: TemporaryDirectory
  let bus: SystemBus
  private(set) var daemon: BackgroundProcess?
  private(set) var service: BackgroundProcess?
  var serviceArguments: [String]

  var address: String { "unix:path=\(directory.path)/bus" }

  init(hasLogind: Bool = true, startsService: Bool = true) async throws {
    LoopDriver.start()
    directory = try TemporaryDirectory()
    serviceArguments = hasLogind ? [] : ["no-logind"]
    bus = SystemBus(address: "unix:path=\(directory.path)/bus", logger: Logger(label: "bus"))
    try await startDaemon()
    if startsService { try await startService() }
  }

  func startDaemon() async throws {
    let configuration = """
      <!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
       "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
      <busconfig><listen>\(address)</listen><auth>EXTERNAL</auth>
      <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
      <allow eavesdrop="true"/></policy></busconfig>
      """
    let path = "\(directory.path)/bus.conf"
    guard let file = fopen(path, "w") else { throw SystemError.last("fopen") }
    fputs(configuration, file)
    fclose(file)
    unlink("\(directory.path)/bus")
    daemon = try BackgroundProcess(
      ["/usr/bin/dbus-daemon", "--nofork", "--config-file=\(path)"], output: "\(directory.path)/daemon.log")
    let socket = "\(directory.path)/bus"
    guard await eventually({ access(socket, F_OK) == 0 }) else {
      throw SystemError(code: ETIMEDOUT, call: "bus")
    }
  }

  func startService() async throws {
    let script =
      #filePath.split(separator: "/").dropLast().reduce(into: "") { $0 += "/\($1)" } + "/bus-service.py"
    unlink("\(directory.path)/service.log")
    let started = try BackgroundProcess(
      ["/usr/bin/python3", script, address] + serviceArguments, output: "\(directory.path)/service.log")
    service = started
    guard await eventually({ started.output.contains("ready") }) else {
      throw SystemError(code: ETIMEDOUT, call: "service: \(started.output)")
    }
  }

  /// Calls that the service got, in order.
  var calls: [String] {
    (service?.output ?? "").split(separator: "\n").map(String.init).filter { $0 != "ready" }
  }

  func stop() async {
    bus.close()
    await service?.stop(patience: .seconds(2))
    await daemon?.stop(patience: .seconds(2))
    await directory.remove()
  }

  func stopDaemon() async {
    await daemon?.stop(patience: .seconds(2))
    await service?.stop(signal: SIGKILL)
  }
}

/// Runs the body with a bus and takes it away afterwards.
func withBus(
  hasLogind: Bool = true, startsService: Bool = true, _ body: (BusFixture) async throws -> Void
) async throws {
  let fixture = try await BusFixture(hasLogind: hasLogind, startsService: startsService)
  do { try await body(fixture) } catch {
    await fixture.stop()
    throw error
  }
  await fixture.stop()
}
