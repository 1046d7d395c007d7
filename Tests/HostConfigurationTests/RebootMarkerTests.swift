import TestSupport
import Testing

@testable import HostConfiguration

struct RebootMarkerTests {
  @Test func aMarkerOfAnEarlierBootAsksForNothing() throws {
    LoopDriver.start()
    let scratch = Scratch()
    let paths = HostPaths(.init(hostRoot: scratch.file("host"), boot: scratch.file("boot")))
    let marker = RebootMarker(path: scratch.file("marker"), facts: HostFacts(paths: paths, logger: quiet))
    write("another boot", to: scratch.file("marker"))
    #expect(!marker.isRequired)
    try marker.set()
    #expect(marker.isRequired)
    marker.remove()
    #expect(!marker.isRequired)
  }
}
