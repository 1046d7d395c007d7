import Glibc
import SystemBus
import TestSupport
import Testing

@testable import HostConfiguration

struct ProxyServicesTests {
  @Test func thatARestartIsDueIsOnTheDiskWhenTheFilesChangeAndTheLoopGoesOnMeanwhile() async {
    LoopDriver.start()
    let scratch = Scratch()
    let path = scratch.file("due")
    let bus = SystemBus(address: "unix:path=\(scratch.file("no-bus"))", logger: quiet)
    let services = ProxyServices(
      systemd: SystemdManager(bus: bus, logger: quiet), marker: path, logger: quiet)
    let note = Task.immediate { await services.noteRestartDue() }
    #expect(services.isRestartDue)
    // Not before the loop has turned.
    #expect(access(path, F_OK) != 0)
    await note.value
    #expect(scratch.names == ["due"])
    bus.close()
  }
}
