import CSystemd
import Glibc
import JSON
import Model

/// A target state document of a hundred services with thirty keys each: read, validated, stored and mapped to
/// what the engine would be told, timed; and what of it stays in memory, as the agent keeps it.
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
    let memory = try measureMemory(of: text)

    let worst = phases.total.max() ?? 0
    let times = Double(memory.atRest) / Double(text.count)
    let most = Int(mostTimesItsSize) * text.count / 1024
    print(
      """
      100 services of 30 keys, \(text.count / 1024) KiB, \(rounds) rounds, milliseconds of processor time: median (worst)

      | step | measured | must hold | |
      | --- | ---: | ---: | --- |
      | JSON | \(shown(phases.json)) | | |
      | validation | \(shown(phases.validation)) | | |
      | to rows of the database and back | \(shown(phases.storing)) | | |
      | mapping | \(shown(phases.mapping)) | | |
      | together | \(shown(phases.total)) | ≤ 50, the worst | \(worst <= mostMilliseconds ? "holds" : "does not hold") |
      | mapping anew, after an event of a device at rest | \(shown(phases.again)) | | |
      | kept in memory, KiB | \(memory.atRest / 1024) | ≤ \(most), 2 × the document | \
      \(times <= mostTimesItsSize ? "holds" : "does not hold") |
      | resident after that, KiB | \(memory.resident / 1024) | | |
      | while there is something to do, KiB | \(memory.atWork / 1024) | | |
      """)
    if worst > mostMilliseconds || times > mostTimesItsSize { exit(1) }
  }

  private struct Phases {
    var json: [Double] = []
    var validation: [Double] = []
    var storing: [Double] = []
    var mapping: [Double] = []
    var total: [Double] = []
    var again: [Double] = []
  }

  /// What the agent does with a document that arrives.
  private static func round(_ text: [UInt8], _ phases: inout Phases) throws -> MappedTarget {
    let begin = now()
    let document = try JSON(parsing: text)
    let parsed = now()
    let state = try TargetStateDocument.parse(v3: document, deviceUuid: "d", source: "local")
    let validated = now()
    var target = MappedTarget()
    target.load(state.apps.map(\.stored))
    let stored = now()
    target.map(
      context: BenchmarkDocument.context, images: BenchmarkDocument.images, apiKey: { _, _ in nil },
      note: { _ in })
    let mapped = now()
    target.letGo()
    let released = now()
    guard target.heldApps().first?.services.count == 100 else { fatalError("the document was not mapped") }
    phases.again.append(now() - released)
    phases.json.append(parsed - begin)
    phases.validation.append(validated - parsed)
    phases.storing.append(stored - validated)
    phases.mapping.append(mapped - stored)
    phases.total.append(mapped - begin)
    return target
  }

  /// Bytes on the heap that the target holds, with and without the mapped values; and what the process has
  /// grown by when free memory went back to the kernel, as the agent returns it.
  private static func measureMemory(of text: [UInt8]) throws -> (atWork: Int, atRest: Int, resident: Int) {
    var phases = Phases()
    malloc_trim(0)
    let pages = anonymous()
    let before = heap()
    var target = try round(text, &phases)
    phases = Phases()
    let working = heap()
    target.letGo()
    let resting = heap()
    malloc_trim(0)
    let grown = anonymous() - pages
    return withExtendedLifetime(target) { (working - before, resting - before, grown) }
  }

  private static func heap() -> Int {
    let info = mallinfo2()
    return Int(info.uordblks) + Int(info.hblkhd)
  }

  /// Resident memory that belongs to no file, by proc_pid_statm(5).
  private static func anonymous() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 128)
    guard fgets(&line, 128, file) != nil else { return 0 }
    let fields = String(decoding: line.map { UInt8(bitPattern: $0) }.prefix { $0 != 0 }, as: UTF8.self)
      .split(separator: " ").compactMap { Int($0) }
    return fields.count > 2 ? (fields[1] - fields[2]) * 4096 : 0
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
