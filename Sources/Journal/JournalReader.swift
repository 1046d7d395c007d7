import CSystemd
import EventLoop

/// The one owner of an `sd_journal`, which closes it in the end. A plain class of its own, because
/// the optimiser of the 6.3 toolchain refuses isolated deinits across modules.
nonisolated final class JournalHandle {
  let pointer: OpaquePointer

  init(_ pointer: OpaquePointer) { self.pointer = pointer }

  deinit { sd_journal_close(pointer) }
}

/// Reads the journal in process, by sd-journal(3).
///
/// Invariants:
///  - The descriptor for changes is asked for right after opening, and what it says is processed at
///    every wake-up, whether anybody reads or not: libsystemd lets go of deleted files only then, and
///    misses files that come and go in between.
///  - An error while moving is never tried again in place. The reader seeks behind the last entry that
///    it could read, and counts what it skipped.
///  - Every call that touches a mapping stands between `enter` and `leave`: a file may be truncated
///    under our eyes, and the page that is missing then reads as zeros instead of ending the process.
public final class JournalReader {
  /// Where the files are.
  public nonisolated enum Source: Hashable, Sendable {
    /// This system's, `/var/log/journal` and `/run/log/journal`.
    case system
    /// A directory with journal files, or with one directory per machine.
    case directory(String)
    /// A host's file system, mounted here: both places below it, now and later.
    case hostRoot(String)
    case files([String])
  }

  /// A stream that cannot get past damage gives up after this many tries without an entry between them.
  private static let failuresInARow = 64

  private let handle: JournalHandle
  /// Called from the loop when entries or files may have come or gone.
  public var onChange: (() -> Void)?
  /// Entries, or stretches of entries, that could not be read.
  public private(set) var lost = 0
  private var failures = 0
  private var lastRealtime: UInt64 = 0
  private var watch: EventLoop.Watch?
  private var timer: LoopTimer?

  var journal: OpaquePointer { handle.pointer }

  /// Opens the journal and begins to watch it.
  ///
  /// - Throws: `ENOENT` and the like when there is no such directory or file.
  public init(_ source: Source) throws(JournalError) {
    _ = csystemd_journal_guard()
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    var journal: OpaquePointer?
    let result: Int32
    switch source {
    case .system: result = sd_journal_open(&journal, Int32(SD_JOURNAL_LOCAL_ONLY))
    case .directory(let path): result = sd_journal_open_directory(&journal, path, 0)
    case .hostRoot(let path):
      result = sd_journal_open_directory(&journal, path, Int32(SD_JOURNAL_OS_ROOT))
    case .files(let paths):
      var names: [UnsafePointer<CChar>?] = paths.map { UnsafePointer(strdup($0)) } + [nil]
      result = sd_journal_open_files(&journal, &names, 0)
      for name in names { free(UnsafeMutablePointer(mutating: name)) }
    }
    try JournalError.check(result, "open the journal")
    guard let journal else { throw JournalError(code: EIO, what: "open the journal") }
    handle = JournalHandle(journal)
    sd_journal_set_data_threshold(journal, 0)
    try beginWatching()
  }

  /// Stops watching. The handle itself goes with the reader.
  public func close() {
    watch?.cancel()
    watch = nil
    timer?.cancel()
    timer = nil
    onChange = nil
  }

  // MARK: Changes

  private func beginWatching() throws(JournalError) {
    let descriptor = try JournalError.check(sd_journal_get_fd(journal), "watch the journal")
    do throws(SystemError) {
      watch = try EventLoop.shared.watch(descriptor, .read) { [weak self] _ in self?.process() }
    } catch {
      throw JournalError(code: error.code, what: "watch the journal")
    }
    scheduleTimeout()
  }

  /// On some file systems nothing tells of changes; libsystemd then asks to be called now and then.
  private func scheduleTimeout() {
    var deadline = UInt64.max
    guard sd_journal_get_timeout(journal, &deadline) >= 0, deadline != .max else { return }
    let now = MonotonicTime.read().nanoseconds / 1000
    let delay = Duration.microseconds(Int64(deadline > now ? deadline - now : 0))
    if let timer { return timer.restart(after: delay) }
    timer = EventLoop.shared.schedule(after: delay, tolerance: .milliseconds(100)) { [weak self] in
      self?.process()
    }
  }

  private func process() {
    csystemd_journal_enter()
    let result = sd_journal_process(journal)
    csystemd_journal_leave()
    scheduleTimeout()
    if result != Int32(SD_JOURNAL_NOP) { onChange?() }
  }

  // MARK: Filters

  public func add(_ filter: JournalFilter) throws(JournalError) { try filter.apply(to: journal) }

  /// The different values of a field in the whole journal.
  public func values(of field: String) -> [String] {
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    guard sd_journal_query_unique(journal, field) >= 0 else { return [] }
    var values: [String] = []
    var data: UnsafeRawPointer?
    var length = 0
    let prefix = field.utf8.count + 1
    sd_journal_restart_unique(journal)
    while sd_journal_enumerate_unique(journal, &data, &length) > 0 {
      guard let start = data, length >= prefix else { continue }
      values.append(
        String(decoding: UnsafeRawBufferPointer(start: start + prefix, count: length - prefix), as: UTF8.self)
      )
    }
    return values
  }

  // MARK: Seeking

  public func seekHead() { sd_journal_seek_head(journal) }

  public func seekTail() { sd_journal_seek_tail(journal) }

  /// - Parameter microseconds: since the epoch.
  public func seek(realtime microseconds: UInt64) {
    sd_journal_seek_realtime_usec(journal, microseconds)
    lastRealtime = microseconds
  }

  /// - Throws: `EINVAL` when the text is no cursor.
  public func seek(cursor: String) throws(JournalError) {
    try JournalError.check(sd_journal_seek_cursor(journal, cursor), "seek to the cursor")
  }

  /// Whether the current entry is the cursor's.
  public func isAt(cursor: String) -> Bool {
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    return sd_journal_test_cursor(journal, cursor) > 0
  }

  /// The current entry's cursor.
  public var cursor: String? {
    var text: UnsafeMutablePointer<CChar>?
    guard sd_journal_get_cursor(journal, &text) >= 0, let text else { return nil }
    defer { free(text) }
    return String(cString: text)
  }

  /// When journald took the current entry, in microseconds since the epoch.
  public var realtime: UInt64? {
    var time: UInt64 = 0
    return sd_journal_get_realtime_usec(journal, &time) >= 0 ? time : nil
  }

  var boot: Boot? {
    var boot = Boot()
    return sd_journal_get_monotonic_usec(journal, nil, &boot.id) >= 0 ? boot : nil
  }

  // MARK: Moving

  /// - Returns: false at the end.
  public func next() -> Bool {
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    while true {
      let result = sd_journal_next(journal)
      if result > 0 {
        var time: UInt64 = 0
        if sd_journal_get_realtime_usec(journal, &time) >= 0 { lastRealtime = time }
        failures = 0
        return true
      }
      guard result < 0 else { return false }
      lost += 1
      failures += 1
      guard failures < Self.failuresInARow else { return false }
      sd_journal_seek_realtime_usec(journal, lastRealtime + 1)
    }
  }

  /// - Returns: how many entries it went back, less than `count` at the beginning.
  public func previous(_ count: Int) -> Int {
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    let result = sd_journal_previous_skip(journal, UInt64(count))
    if result < 0 { lost += 1 }
    return max(Int(result), 0)
  }

  /// The current entry could not be read.
  func noteUnreadable() { lost += 1 }

  // MARK: Fields of the current entry

  /// The first value of a field as bytes, valid inside of `body` only; nil when there is none.
  func withValue<Result>(_ field: String, _ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result? {
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    var data: UnsafeRawPointer?
    var length = 0
    guard sd_journal_get_data(journal, field, &data, &length) >= 0, let data else { return nil }
    let prefix = field.utf8.count + 1
    guard length >= prefix else { return nil }
    return body(
      UnsafeBufferPointer(
        start: (data + prefix).assumingMemoryBound(to: UInt8.self), count: length - prefix))
  }

  /// The first value of a field of the current entry, read as UTF-8.
  public func text(_ field: String) -> String? { withValue(field) { String(decoding: $0, as: UTF8.self) } }
}
