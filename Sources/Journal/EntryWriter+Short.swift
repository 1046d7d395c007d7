import CSystemd
import Glibc

extension EntryWriter {
  /// Values longer than this are not shown in the head of a line without `--all`.
  private static let longValue = 300

  /// Where a value stands in `scratch`.
  private struct Span {
    var offset = 0
    var length = 0
  }

  /// What a line is made of.
  private struct Parts {
    var message: Span?
    var host: Span?
    var identifier: Span?
    var command: Span?
    var process: Span?
    var senderProcess: Span?
    var unit: Span?
    var userUnit: Span?
    var realtime: Span?
    var monotonic: Span?
  }

  /// `time host identifier[pid]: message`, in the variants of time and identifier.
  mutating func writeShort(_ journal: OpaquePointer) -> Bool {
    var parts = Parts()
    guard collect(journal, &parts), let address = Self.address(journal) else { return false }
    let realtime = Self.time(parts.realtime, scratch.base, .realtime) ?? address.realtime
    let monotonic = Self.time(parts.monotonic, scratch.base, .monotonic) ?? address.monotonic
    defer { previous = (realtime, monotonic, address.boot) }
    guard var message = parts.message else { return true }
    if !showsAll { stripTerminalSequences(&message) }

    let start = out.count
    writeTime(realtime, monotonic, address.boot)
    var width = out.count - start
    if let host = parts.host, isShown(host) {
      out.append(UInt8(ascii: " "))
      writeText(host)
      width += host.length + 1
    }
    width += writeOrigin(parts)
    if let process = parts.process, isShown(process) {
      width += writeProcess(process)
    } else if let process = parts.senderProcess, isShown(process) {
      width += writeProcess(process)
    }
    out.append(": ")

    if !showsAll, !Printable.isText(scratch.base + message.offset, message.length) {
      out.append(UInt8(ascii: "["))
      Self.writeSize(message.length, to: &out)
      out.append(" blob data]\n")
    } else {
      Self.writeLines(scratch.base + message.offset, message.length, indent: width + 2, to: &out)
    }
    return true
  }

  // MARK: Collecting

  private mutating func collect(_ journal: OpaquePointer, _ parts: inout Parts) -> Bool {
    scratch.removeAll(keeping: Self.bufferBytes)
    var data = UnsafePointer(out.base)
    var length = 0
    sd_journal_restart_data(journal)
    while true {
      let result = Self.next(journal, &data, &length)
      guard result > 0 else { return result == 0 }
      guard length > 5 else {
        if length == 5, memcmp(data, "_PID=", 5) == 0 { parts.process = keep(data, length, 5) }
        continue
      }
      let field = Field(data: data, length: length, name: 0)
      // Of a field that occurs more than once the last value counts.
      switch data[0] {
      case UInt8(ascii: "M"):
        if field.hasPrefix("MESSAGE=") { parts.message = keep(data, length, 8) }
      case UInt8(ascii: "S"):
        if field.hasPrefix("SYSLOG_IDENTIFIER=") {
          parts.identifier = keep(data, length, 18)
        } else if field.hasPrefix("SYSLOG_PID=") {
          parts.senderProcess = keep(data, length, 11)
        }
      case UInt8(ascii: "_"):
        collectTrusted(field, &parts)
      default: break
      }
    }
  }

  @inline(__always)
  private mutating func collectTrusted(_ field: Field, _ parts: inout Parts) {
    let (data, length) = (field.data, field.length)
    switch data[1] {
    case UInt8(ascii: "P"):
      if field.hasPrefix("_PID=") { parts.process = keep(data, length, 5) }
    case UInt8(ascii: "C"):
      if field.hasPrefix("_COMM=") { parts.command = keep(data, length, 6) }
    case UInt8(ascii: "H"):
      if field.hasPrefix("_HOSTNAME=") { parts.host = keep(data, length, 10) }
    case UInt8(ascii: "S"):
      if field.hasPrefix("_SYSTEMD_UNIT=") {
        parts.unit = keep(data, length, 14)
      } else if field.hasPrefix("_SYSTEMD_USER_UNIT=") {
        parts.userUnit = keep(data, length, 19)
      } else if parts.realtime == nil || parts.monotonic == nil {
        if field.hasPrefix("_SOURCE_REALTIME_TIMESTAMP=") {
          parts.realtime = keep(data, length, 27)
        } else if field.hasPrefix("_SOURCE_MONOTONIC_TIMESTAMP=") {
          parts.monotonic = keep(data, length, 28)
        }
      }
    default: break
    }
  }

  @inline(__always)
  private mutating func keep(_ data: UnsafePointer<UInt8>, _ length: Int, _ prefix: Int) -> Span {
    let span = Span(offset: scratch.count, length: length - prefix)
    scratch.append(data + prefix, length - prefix)
    return span
  }

  // MARK: The head of a line

  private func isShown(_ span: Span?) -> Bool {
    guard let span else { return false }
    return showsAll
      || span.length < Self.longValue && Printable.isText(scratch.base + span.offset, span.length)
  }

  /// As C prints a string: until a zero byte.
  private mutating func writeText(_ span: Span) {
    out.append(scratch.base + span.offset, strnlen(scratch.base + span.offset, span.length))
  }

  /// - Returns: what it adds to the indent of further lines, which is not always its width.
  private mutating func writeOrigin(_ parts: Parts) -> Int {
    if format == .withUnit, isShown(parts.unit) || isShown(parts.userUnit) {
      var width = 0
      if let unit = parts.unit {
        out.append(UInt8(ascii: " "))
        writeText(unit)
        width += unit.length + 1
      }
      if let user = parts.userUnit {
        out.append(parts.unit == nil ? UInt8(ascii: " ") : UInt8(ascii: "/"))
        writeText(user)
        width += (parts.unit?.length ?? 0) + 1
      }
      return width
    }
    for candidate in [parts.identifier, parts.command] {
      guard let candidate, isShown(candidate) else { continue }
      out.append(UInt8(ascii: " "))
      writeText(candidate)
      return candidate.length + 1
    }
    out.append(" unknown")
    return 0
  }

  private mutating func writeProcess(_ span: Span) -> Int {
    out.append(UInt8(ascii: "["))
    writeText(span)
    out.append(UInt8(ascii: "]"))
    return span.length + 2
  }

  private mutating func writeTime(_ realtime: UInt64, _ monotonic: UInt64, _ boot: Boot) {
    let microseconds = realtime % 1_000_000
    switch format {
    case .shortMonotonic, .shortDelta:
      out.append(UInt8(ascii: "["))
      writeSeconds(monotonic, width: 5, fill: UInt8(ascii: " "))
      if format == .shortDelta { writeDelta(realtime, monotonic, boot) }
      out.append(UInt8(ascii: "]"))
    case .shortUnix:
      writeSeconds(realtime, width: 10, fill: UInt8(ascii: " "))
    case .short, .shortPrecise:
      clock.setTo(realtime, .syslog)
      out.append(clock.head)
      if format == .shortPrecise { writeFraction(microseconds) }
    case .shortISO, .shortISOPrecise:
      clock.setTo(realtime, .iso)
      out.append(clock.head)
      if format == .shortISOPrecise { writeFraction(microseconds) }
      out.append(clock.zone)
    default:
      clock.setTo(realtime, .full)
      out.append(clock.head)
      out.append(clock.zone)
    }
  }

  /// Since the entry before; by the wall clock, with an asterisk, across boots.
  private mutating func writeDelta(_ realtime: UInt64, _ monotonic: UInt64, _ boot: Boot) {
    guard let previous else { return out.append(UInt8(ascii: " "), times: 16) }
    let isSameBoot = previous.boot == boot
    let (now, before) = isSameBoot ? (monotonic, previous.monotonic) : (realtime, previous.realtime)
    out.append(" <")
    writeSeconds(now > before ? now - before : 0, width: 5, fill: UInt8(ascii: " "))
    out.append(isSameBoot ? " >" : "*>")
  }

  private mutating func writeSeconds(_ time: UInt64, width: Int, fill: UInt8) {
    out.append(decimal: time / 1_000_000, width: width, fill: fill)
    writeFraction(time % 1_000_000)
  }

  mutating func writeFraction(_ microseconds: UInt64) {
    out.append(UInt8(ascii: "."))
    out.append(decimal: microseconds, width: 6)
  }

  // MARK: Times that the sender wrote

  enum SourceTime { case realtime, monotonic }

  private static func time(_ span: Span?, _ base: UnsafePointer<UInt8>, _ kind: SourceTime) -> UInt64? {
    span.flatMap { time(base + $0.offset, $0.length, kind) }
  }

  /// The sender's time; nil when it is not a number or not a time before the year 3112.
  static func time(_ text: UnsafePointer<UInt8>, _ count: Int, _ kind: SourceTime) -> UInt64? {
    guard count > 0, count < 64 else { return nil }
    var value: UInt64 = 0
    if text[0] >= UInt8(ascii: "1"), text[0] <= UInt8(ascii: "9"), count < 19 {
      for index in 0..<count {
        let digit = text[index] &- UInt8(ascii: "0")
        guard digit < 10 else { return nil }
        value = value * 10 + UInt64(digit)
      }
    } else {
      // Whatever else strtoull(3) takes: other bases, a sign, blanks before it.
      guard memchr(text, Int32(UInt8(ascii: "-")), count) == nil, strnlen(text, count) == count else {
        return nil
      }
      let copy = (0..<count).map { CChar(bitPattern: text[$0]) } + [0]
      var end = 0
      errno = 0
      copy.withUnsafeBufferPointer { buffer in
        guard let start = buffer.baseAddress else { return }
        var rest: UnsafeMutablePointer<CChar>?
        value = UInt64(strtoull(start, &rest, 0))
        end = rest.map { UnsafePointer($0) - start } ?? 0
      }
      guard errno == 0, end == count else { return nil }
    }
    guard value < 1 << 55, kind == .monotonic || value > 0 else { return nil }
    return value
  }

  // MARK: The message

  /// Takes out colours, operating system sequences and carriage returns at the ends of lines, and makes
  /// eight blanks of a tab.
  private mutating func stripTerminalSequences(_ message: inout Span) {
    let text = scratch.base + message.offset
    guard
      memchr(text, 0x1b, message.length) != nil || memchr(text, 0x09, message.length) != nil
        || memchr(text, 0x0d, message.length) != nil
    else { return }
    scratch.reserve(message.length * 8)
    let stripped = TerminalText.strip(
      scratch.base + message.offset, message.length, to: scratch.base + scratch.count)
    message = Span(offset: scratch.count, length: stripped)
    scratch.count += stripped
  }

  /// Each line of a message below the first is indented. A line ends at a zero byte, as in C.
  static func writeLines(
    _ text: UnsafePointer<UInt8>, _ count: Int, indent: Int, to out: inout ByteBuffer
  ) {
    guard count > 0 else { return out.append(UInt8(ascii: "\n")) }
    var position = 0
    while position < count {
      let line = text + position
      let rest = count - position
      let end = memchr(line, 0x0a, rest).map { UnsafePointer($0.assumingMemoryBound(to: UInt8.self)) - line }
      let length = end ?? rest
      if position > 0 { out.append(UInt8(ascii: " "), times: indent) }
      out.append(line, strnlen(line, length))
      out.append(UInt8(ascii: "\n"))
      position += length + 1
    }
  }

  /// A size with the largest unit that it reaches, with one decimal.
  static func writeSize(_ size: Int, to out: inout ByteBuffer) {
    let units: [(UInt8, UInt64)] = [
      (UInt8(ascii: "G"), 1 << 30), (UInt8(ascii: "M"), 1 << 20), (UInt8(ascii: "K"), 1 << 10),
    ]
    let size = UInt64(size)
    for (unit, factor) in units where size >= factor {
      out.append(decimal: size / factor)
      out.append(UInt8(ascii: "."))
      let below = factor > 1024 ? size / (factor / 1024) * 10 / 1024 : size * 10 / factor
      out.append(decimal: below % 10)
      out.append(unit)
      return
    }
    out.append(decimal: size)
    out.append(UInt8(ascii: "B"))
  }
}

nonisolated func strnlen(_ text: UnsafePointer<UInt8>, _ count: Int) -> Int {
  guard count > 0, let zero = memchr(text, 0, count) else { return count }
  return UnsafePointer(zero.assumingMemoryBound(to: UInt8.self)) - text
}

/// Escape sequences that terminals understand.
nonisolated enum TerminalText {
  private enum State { case text, escape, colour, command }

  /// Where the line ends whose last bytes are carriage returns from `position` on.
  private static func endOfLine(_ text: UnsafePointer<UInt8>, _ position: Int, _ count: Int) -> Int? {
    var end = position
    while end < count, text[end] == 0x0d { end += 1 }
    return end == count || text[end] == 0x0a ? end : nil
  }

  /// Copies without tabs, without `ESC [ … m`, and without `ESC ] … BEL`. What is cut off or has
  /// other characters in it stays.
  ///
  /// - Parameter to: room for eight times `count`.
  /// - Returns: the bytes written.
  static func strip(_ text: UnsafePointer<UInt8>, _ count: Int, to: UnsafeMutablePointer<UInt8>) -> Int {
    var state = State.text
    var begin = 0
    var position = 0
    var written = 0
    func put(_ byte: UInt8) {
      to[written] = byte
      written += 1
    }
    while position <= count {
      let isEnd = position == count
      let byte = isEnd ? 0 : text[position]
      switch state {
      case .text:
        if isEnd { break }
        if byte == 0x1b {
          state = .escape
        } else if byte == 0x09 {
          for _ in 0..<8 { put(UInt8(ascii: " ")) }
        } else if byte == 0x0d, let end = endOfLine(text, position, count) {
          position = end - 1
        } else {
          put(byte)
        }
      case .escape:
        if isEnd {
          put(0x1b)
        } else if byte == UInt8(ascii: "[") || byte == UInt8(ascii: "]") {
          state = byte == UInt8(ascii: "[") ? .colour : .command
          begin = position + 1
        } else {
          put(0x1b)
          put(byte)
          state = .text
        }
      case .colour, .command:
        let last = state == .colour ? UInt8(ascii: "m") : 0x07
        if isEnd || !isAllowed(byte, in: state) {
          put(0x1b)
          put(state == .colour ? UInt8(ascii: "[") : UInt8(ascii: "]"))
          state = .text
          position = begin - 1
        } else if byte == last {
          state = .text
        }
      }
      position += 1
    }
    return written
  }

  private static func isAllowed(_ byte: UInt8, in state: State) -> Bool {
    guard state == .colour else { return byte == 0x07 || byte >= 32 && byte <= 126 }
    return byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") || byte == UInt8(ascii: ";")
      || byte == UInt8(ascii: "m") || byte == 0
  }
}
