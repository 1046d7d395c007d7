import CSystemd
import Glibc
import JSON
import Model

/// A target state document of a hundred services with thirty keys each: read, validated and mapped to what the
/// engine would be told, timed; and what of it stays in memory.
///
/// `scripts/benchmark-mapping` builds and starts this. Status 1 when a figure does not hold.
@main
enum MappingBenchmark {
  private static let rounds = 41
  private static let mostMilliseconds = 50.0
  private static let mostTimesItsSize = 2.0

  static func main() throws {
    let text = BenchmarkDocument.make(services: 100)
    var phases = Phases()
    _ = try round(text, &phases)  // Caches are warm in an agent that runs.
    phases = Phases()
    for _ in 0..<rounds { _ = try round(text, &phases) }
    let worst = phases.total.max() ?? 0
    let kept = try memoryKept(by: text)
    let times = Double(kept) / Double(text.count)

    print(
      """
      100 services of 30 keys, \(text.count / 1024) KiB, \(rounds) rounds, milliseconds of processor time: median (worst)

      | step | measured | must hold | |
      | --- | ---: | ---: | --- |
      | JSON | \(shown(phases.json)) | | |
      | validation | \(shown(phases.validation)) | | |
      | mapping | \(shown(phases.mapping)) | | |
      | together | \(shown(phases.total)) | ≤ 50, the worst | \(worst <= mostMilliseconds ? "holds" : "does not hold") |
      | kept in memory, KiB | \(kept / 1024) | ≤ \(Int(mostTimesItsSize)) × the document | \
      \(times <= mostTimesItsSize ? "holds" : "does not hold") |
      """)
    if worst > mostMilliseconds || times > mostTimesItsSize { exit(1) }
  }

  private struct Phases {
    var json: [Double] = []
    var validation: [Double] = []
    var mapping: [Double] = []
    var total: [Double] = []
  }

  private static func round(_ text: [UInt8], _ phases: inout Phases) throws -> (TargetState, [App]) {
    let begin = now()
    let document = try JSON(parsing: text)
    let parsed = now()
    let state = try TargetStateDocument.parse(v3: document, deviceUuid: "d", source: "local")
    let validated = now()
    let apps = try state.apps.map { app in
      try App.target(from: app, context: BenchmarkDocument.context, images: BenchmarkDocument.images).0
    }
    let mapped = now()
    guard apps.first?.services.count == 100 else { fatalError("the document was not mapped") }
    phases.json.append(parsed - begin)
    phases.validation.append(validated - parsed)
    phases.mapping.append(mapped - validated)
    phases.total.append(mapped - begin)
    return (state, apps)
  }

  /// Bytes on the heap that target and mapped app hold together, as the agent keeps them.
  private static func memoryKept(by text: [UInt8]) throws -> Int {
    var phases = Phases()
    let before = mallinfo2().uordblks
    let kept = try round(text, &phases)
    let after = mallinfo2().uordblks
    return withExtendedLifetime((kept, phases)) { Int(after) - Int(before) }
  }

  /// Of the processor, so that what else the machine does is not counted.
  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) * 1000 + Double(time.tv_nsec) / 1_000_000
  }

  private static func shown(_ times: [Double]) -> String {
    let sorted = times.sorted()
    func text(_ time: Double) -> String { "\((time * 10).rounded() / 10)" }
    return "\(text(sorted[sorted.count / 2])) (\(text(sorted[sorted.count - 1])))"
  }
}
