import CSystemd
import EventLoop
import Glibc

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
///  - An error while moving is never tried again in place. libsystemd lets go of a file that it cannot
///    read on and tells nobody; what the open files occupy then shrinks without a change of the directory.
///    The reader counts that, opens the journal anew and seeks behind the last entry that it could read.
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

  private let source: Source
  private var handle: JournalHandle
  private var filters: [JournalFilter] = []
  /// Called from the loop when entries or files may have come or gone.
  public var onChange: (() -> Void)?
  /// Entries, or stretches of entries, that could not be read.
  public private(set) var lost = 0
  /// Pages of files that were cut off while they were read.
  public private(set) var lostPages: UInt64 = 0
  private var failures = 0
  private var lastRealtime: UInt64 = 0
  /// The latest time that an entry had.
  private var latest: UInt64 = 0
  private var depth = 0
  private var pagesBefore: UInt64 = 0
  /// What the open files occupy, and the time of their newest entry.
  private var usage: UInt64 = 0
  private var newest: UInt64 = 0
  /// The handle has let go of a file that is damaged, and entries behind the damage may be had.
  private var hasDamage = false
  private var isSkipping = false
  private var isShort = false
  /// Microseconds behind the last entry at which the other side of the damage is looked for next.
  private var distance: UInt64 = 1
  /// There is no other side.
  private var isExhausted = false
  private var watch: EventLoop.Watch?
  private var timer: LoopTimer?

  var journal: OpaquePointer { handle.pointer }

  /// Opens the journal and begins to watch it.
  ///
  /// - Throws: `ENOENT` and the like when there is no such directory or file.
  public init(_ source: Source) throws(JournalError) {
    _ = csystemd_journal_guard()
    self.source = source
    handle = try Self.open(source)
    try beginWatching()
    (usage, newest) = Self.state(of: journal)
  }

  private static func open(_ source: Source) throws(JournalError) -> JournalHandle {
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
    let handle = JournalHandle(journal)
    sd_journal_set_data_threshold(journal, 0)
    return handle
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
    let events = sd_journal_get_events(journal)
    do throws(SystemError) {
      watch = try EventLoop.shared.watch(descriptor, Self.interest(events)) { [weak self] _ in self?.process()
      }
    } catch {
      throw JournalError(code: error.code, what: "watch the journal")
    }
    scheduleTimeout()
  }

  /// poll(2) events as the loop names them.
  private static func interest(_ events: Int32) -> EventLoop.Interest {
    events > 0 && events & POLLIN == 0 && events & POLLOUT != 0 ? .write : .read
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
    enter()
    let result = sd_journal_process(journal)
    leave()
    noteDamage()
    scheduleTimeout()
    if result != Int32(SD_JOURNAL_NOP) { onChange?() }
  }

  // MARK: Damage

  /// Every access to the files stands between this and `leave`. Can be nested.
  func enter() {
    csystemd_journal_enter()
    if depth == 0 { pagesBefore = csystemd_journal_lost_pages() }
    depth += 1
  }

  func leave() {
    csystemd_journal_leave()
    depth -= 1
    guard depth == 0, csystemd_journal_lost_pages() != pagesBefore else { return }
    lostPages += csystemd_journal_lost_pages() - pagesBefore
  }

  private static func state(of journal: OpaquePointer) -> (usage: UInt64, newest: UInt64) {
    csystemd_journal_enter()
    defer { csystemd_journal_leave() }
    var (usage, oldest, newest): (UInt64, UInt64, UInt64) = (0, 0, 0)
    sd_journal_get_usage(journal, &usage)
    sd_journal_get_cutoff_realtime_usec(journal, &oldest, &newest)
    return (usage, newest)
  }

  /// Looks whether a file has left the handle that is still there, or the newest entries have.
  ///
  /// Files shrink also when they are archived or deleted: only a second handle tells.
  private func noteDamage() {
    let now = Self.state(of: journal)
    defer { (usage, newest) = now }
    guard !isExhausted, now.usage < usage, now.newest < newest || lacksFiles() else { return }
    if !isSkipping { lost += 1 }
    hasDamage = true
  }

  private func lacksFiles() -> Bool {
    for _ in 0..<2 {
      do throws(JournalError) {
        let other = try Self.open(source)
        if Self.state(of: journal).usage >= Self.state(of: other.pointer).usage { return false }
      } catch {
        return false
      }
    }
    return true
  }

  /// To be called at the end of what can be read. When a file was found to be damaged, the journal is opened
  /// anew and stands behind the last entry, further from it with each failure.
  ///
  /// - Returns: true when there may be more to read.
  func skipsDamage() -> Bool {
    noteDamage()
    guard hasDamage, lastRealtime > 0 else { return false }
    hasDamage = false
    isSkipping = true
    var place = lastRealtime + distance
    distance *= 2
    if place > Self.now {
      isExhausted = true
      place = lastRealtime + 1
    }
    do throws(JournalError) {
      let other = try Self.open(source)
      watch?.cancel()
      handle = other
      try beginWatching()
      for filter in filters { try filter.apply(to: journal) }
    } catch {
      return false
    }
    (usage, newest) = Self.state(of: journal)
    sd_journal_seek_realtime_usec(journal, place)
    return true
  }

  private static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec / 1000)
  }

  /// To be called when all that there is was read, to the end: where the index of a file is broken off, libsystemd
  /// says that there is no more. What the files say of their newest entry is compared with what came.
  func noteEndOfAll() {
    guard latest > 0, newest > latest, !isShort else { return }
    isShort = true
    lost += 1
  }

  /// Nothing can be read any more: too many failures without an entry between them.
  public var hasGivenUp: Bool { failures >= Self.failuresInARow }

  // MARK: Filters

  public func add(_ filter: JournalFilter) throws(JournalError) {
    try filter.apply(to: journal)
    filters.append(filter)
  }

  /// The boot that a follower of files shows (`journalctl --follow`): this system's, and where the files are
  /// no running system's that of the newest entry. To be asked for before filters are added.
  func followedBoot() -> String? {
    let current = Boot.current
    if case .system = source { return current }
    enter()
    defer { leave() }
    defer { sd_journal_flush_matches(journal) }
    if case .hostRoot = source, let current {
      let match = "_BOOT_ID=\(current)"
      sd_journal_add_match(journal, match, match.utf8.count)
      sd_journal_seek_tail(journal)
      if sd_journal_previous(journal) > 0 { return current }
      sd_journal_flush_matches(journal)
    }
    sd_journal_seek_tail(journal)
    guard sd_journal_previous(journal) > 0, let last = boot else { return current }
    return last.text
  }

  /// The different values of a field in the whole journal.
  public func values(of field: String) -> [[UInt8]] {
    enter()
    defer { leave() }
    guard sd_journal_query_unique(journal, field) >= 0 else { return [] }
    var values: [[UInt8]] = []
    var data: UnsafeRawPointer?
    var length = 0
    let prefix = field.utf8.count + 1
    sd_journal_restart_unique(journal)
    while sd_journal_enumerate_unique(journal, &data, &length) > 0 {
      guard let start = data, length >= prefix else { continue }
      values.append(Array(UnsafeRawBufferPointer(start: start + prefix, count: length - prefix)))
    }
    return values
  }

  // MARK: Seeking

  public func seekHead() {
    sd_journal_seek_head(journal)
    lastRealtime = 0
  }

  public func seekTail() {
    sd_journal_seek_tail(journal)
    lastRealtime = Self.now
  }

  /// - Parameter microseconds: since the epoch.
  public func seek(realtime microseconds: UInt64) {
    sd_journal_seek_realtime_usec(journal, microseconds)
    lastRealtime = min(microseconds, Self.now)
  }

  /// - Throws: `EINVAL` when the text is no cursor.
  public func seek(cursor: String) throws(JournalError) {
    try JournalError.check(sd_journal_seek_cursor(journal, cursor), "seek to the cursor")
    let time = cursor.split(separator: ";").first { $0.hasPrefix("t=") }
    lastRealtime = min(time.flatMap { UInt64($0.dropFirst(2), radix: 16) } ?? 0, Self.now)
  }

  /// Whether the current entry is the cursor's.
  public func isAt(cursor: String) -> Bool {
    enter()
    defer { leave() }
    return sd_journal_test_cursor(journal, cursor) > 0
  }

  /// The current entry's cursor.
  public var cursor: String? {
    enter()
    defer { leave() }
    var text: UnsafeMutablePointer<CChar>?
    guard sd_journal_get_cursor(journal, &text) >= 0, let text else { return nil }
    defer { free(text) }
    return String(cString: text)
  }

  /// When journald took the current entry, in microseconds since the epoch.
  public var realtime: UInt64? {
    enter()
    defer { leave() }
    var time: UInt64 = 0
    return sd_journal_get_realtime_usec(journal, &time) >= 0 ? time : nil
  }

  var boot: Boot? {
    enter()
    defer { leave() }
    var boot = Boot()
    return sd_journal_get_monotonic_usec(journal, nil, &boot.id) >= 0 ? boot : nil
  }

  // MARK: Moving

  /// - Returns: false at the end.
  public func next() -> Bool {
    enter()
    defer { leave() }
    while true {
      let result = sd_journal_next(journal)
      if result > 0 {
        noteTime()
        failures = 0
        isSkipping = false
        distance = 1
        return true
      }
      guard result < 0 else { return false }
      lost += 1
      failures += 1
      guard failures < Self.failuresInARow else { return false }
      sd_journal_seek_realtime_usec(journal, lastRealtime + 1)
    }
  }

  private func noteTime() {
    var time: UInt64 = 0
    guard sd_journal_get_realtime_usec(journal, &time) >= 0 else { return }
    lastRealtime = min(time, .max >> 1)
    latest = max(latest, time)
  }

  /// - Returns: how many entries it went back, less than `count` at the beginning; nil when it failed, and the
  ///   next step is to the entry that was reached before.
  public func previous(_ count: Int) -> Int? {
    enter()
    defer { leave() }
    let result = sd_journal_previous_skip(journal, UInt64(count))
    if result < 0 {
      lost += 1
      sd_journal_seek_realtime_usec(journal, lastRealtime)
      return nil
    }
    if result > 0 { noteTime() }
    return Int(result)
  }

  /// The cursor of the entry before the current one, which stays the current one.
  func cursorBefore() -> String? {
    enter()
    defer { leave() }
    guard let here = cursor else { return nil }
    var before: String?
    if sd_journal_previous(journal) > 0 {
      before = cursor
      _ = sd_journal_next(journal)
    }
    if sd_journal_test_cursor(journal, here) <= 0 {
      sd_journal_seek_cursor(journal, here)
      _ = sd_journal_next(journal)
    }
    return before
  }

  /// The current entry could not be read.
  func noteUnreadable() { lost += 1 }

  // MARK: Fields of the current entry

  /// The first value of a field as bytes, valid inside of `body` only; nil when there is none.
  func withValue<Result>(_ field: String, _ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result? {
    enter()
    defer { leave() }
    var data: UnsafeRawPointer?
    var length = 0
    guard sd_journal_get_data(journal, field, &data, &length) >= 0, let data else { return nil }
    let prefix = field.utf8.count + 1
    guard length >= prefix else { return nil }
    return body(
      UnsafeBufferPointer(
        start: (data + prefix).assumingMemoryBound(to: UInt8.self), count: length - prefix))
  }

  /// Whether one of a field's values fulfils a condition; an entry rarely has several.
  func hasValue(_ field: String, where condition: (UnsafeBufferPointer<UInt8>) -> Bool) -> Bool {
    enter()
    defer { leave() }
    guard let isFirst = withValue(field, condition) else { return false }
    if isFirst { return true }
    let prefix = Array("\(field)=".utf8)
    // Of long values, which may be compressed, the beginning is enough.
    sd_journal_set_data_threshold(journal, prefix.count + 64)
    defer { sd_journal_set_data_threshold(journal, 0) }
    sd_journal_restart_data(journal)
    var data: UnsafeRawPointer?
    var length = 0
    while sd_journal_enumerate_available_data(journal, &data, &length) > 0 {
      guard let data, length >= prefix.count, memcmp(data, prefix, prefix.count) == 0 else { continue }
      let value = UnsafeBufferPointer(
        start: (data + prefix.count).assumingMemoryBound(to: UInt8.self), count: length - prefix.count)
      if condition(value) { return true }
    }
    return false
  }

  /// The first value of a field of the current entry, read as UTF-8.
  public func text(_ field: String) -> String? { withValue(field) { String(decoding: $0, as: UTF8.self) } }
}
