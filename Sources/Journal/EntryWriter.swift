import CSystemd

/// Writes entries of the journal as `journalctl -o` does.
///
/// Model: `sd_journal_enumerate_data` hands out one field after the other, and each goes straight
/// from libsystemd's mapping into `out`; nothing is allocated per field or per entry. Where a format
/// needs a field before the ones that came earlier, the values are kept in `scratch`.
///
/// An entry that turns out to be unreadable leaves no byte in `out`.
struct EntryWriter: ~Copyable {
  let format: OutputFormat
  /// `--all`: long and unprintable values in full.
  let showsAll: Bool
  var out: ByteBuffer
  var scratch: ByteBuffer
  var clock = LocalClock()
  var names: NameTable
  /// Of the entry before, for `short-delta`.
  var previous: (realtime: UInt64, monotonic: UInt64, boot: Boot)?

  /// Both buffers are brought back to this size when they are emptied.
  static let bufferBytes = 80 * 1024

  init(format: OutputFormat, showsAll: Bool) {
    self.format = format
    self.showsAll = showsAll
    names = NameTable(isPretty: format == .jsonPretty)
    out = ByteBuffer(capacity: Self.bufferBytes)
    scratch = ByteBuffer(capacity: 4096)
  }

  /// Appends the current entry of `journal`.
  ///
  /// - Returns: false when it cannot be read.
  mutating func write(_ journal: OpaquePointer) -> Bool {
    let start = out.count
    let isGood: Bool
    switch format {
    case .cat: isGood = writeMessage(journal)
    case .export: isGood = writeExport(journal)
    case .verbose: isGood = writeVerbose(journal)
    case .json, .jsonPretty, .jsonSSE, .jsonSeq: isGood = writeJSON(journal)
    default: isGood = writeShort(journal)
    }
    if !isGood { out.count = start }
    return isGood
  }

  /// The line between two boots.
  mutating func writeBoot(_ boot: Boot) {
    out.append("-- Boot ")
    boot.write(to: &out)
    out.append(" --\n")
  }

  mutating func writeNoEntries() { out.append("-- No entries --\n") }

  // MARK: Fields

  /// One field: `NAME=value`.
  struct Field {
    var data: UnsafePointer<UInt8>
    var length: Int
    /// Length of the name.
    var name: Int

    var value: UnsafePointer<UInt8> { data + name + 1 }
    var valueLength: Int { length - name - 1 }

    @inline(__always)
    func hasPrefix(_ text: StaticString) -> Bool {
      length >= text.utf8CodeUnitCount && memcmp(data, text.utf8Start, text.utf8CodeUnitCount) == 0
    }
  }

  /// - Returns: 1, 0 at the end, or a negative errno.
  @inline(__always)
  static func next(_ journal: OpaquePointer, _ data: inout UnsafePointer<UInt8>, _ length: inout Int) -> Int32
  {
    var pointer: UnsafeRawPointer?
    var size = 0
    let result = sd_journal_enumerate_data(journal, &pointer, &size)
    if result > 0, let pointer {
      data = pointer.assumingMemoryBound(to: UInt8.self)
      length = size
    }
    return result
  }

  /// Length of the name, and a hash of it; nil when it is no name of a field
  /// (systemd.journal-fields(7): upper case, digits and underscores, 64 at most).
  @inline(__always)
  static func name(_ data: UnsafePointer<UInt8>, _ length: Int) -> (length: Int, hash: UInt32)? {
    var hash: UInt32 = 2_166_136_261
    var position = 0
    while position < length {
      let byte = data[position]
      if byte == UInt8(ascii: "=") {
        guard position > 0, position <= 64, data[0] > UInt8(ascii: "9") else { return nil }
        return (position, hash)
      }
      guard
        byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") || byte == UInt8(ascii: "_")
          || byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
      else { return nil }
      hash = (hash ^ UInt32(byte)) &* 16_777_619
      position += 1
    }
    return nil
  }

  /// The address fields of an entry.
  struct Address {
    var realtime: UInt64 = 0
    var monotonic: UInt64 = 0
    var boot = Boot()
  }

  static func address(_ journal: OpaquePointer) -> Address? {
    var address = Address()
    guard sd_journal_get_realtime_usec(journal, &address.realtime) >= 0,
      sd_journal_get_monotonic_usec(journal, &address.monotonic, &address.boot.id) >= 0
    else { return nil }
    return address
  }

  // MARK: cat

  private mutating func writeMessage(_ journal: OpaquePointer) -> Bool {
    var pointer: UnsafeRawPointer?
    var size = 0
    let result = sd_journal_get_data(journal, "MESSAGE", &pointer, &size)
    guard result >= 0, let data = pointer?.assumingMemoryBound(to: UInt8.self), size >= 8 else {
      return result == -ENOENT
    }
    out.append(data + 8, size - 8)
    out.append(UInt8(ascii: "\n"))
    return true
  }

  // MARK: export

  /// Journal export format (systemd.io/JOURNAL_EXPORT_FORMATS).
  private mutating func writeExport(_ journal: OpaquePointer) -> Bool {
    guard let address = Self.address(journal), writeCursor(journal, before: "__CURSOR=") else { return false }
    out.append("\n__REALTIME_TIMESTAMP=")
    out.append(decimal: address.realtime)
    out.append("\n__MONOTONIC_TIMESTAMP=")
    out.append(decimal: address.monotonic)
    out.append("\n_BOOT_ID=")
    address.boot.write(to: &out)
    out.append(UInt8(ascii: "\n"))

    var data = UnsafePointer(out.base)
    var length = 0
    names.begin()
    sd_journal_restart_data(journal)
    while true {
      let result = Self.next(journal, &data, &length)
      if result <= 0 {
        out.append(UInt8(ascii: "\n"))
        return result == 0
      }
      let name: Int
      switch names.find(data, length) {
      case .invalid: continue
      case .name(let length, _): name = length
      case .full:
        guard let found = Self.name(data, length) else { continue }
        name = found.length
      }
      let field = Field(data: data, length: length, name: name)
      if name == 8, field.hasPrefix("_BOOT_ID=") { continue }
      out.reserve(length + 1)
      let plain = csystemd_copy_line(out.base + out.count, data, length)
      if plain == length {
        out.count += length
        out.append(UInt8(ascii: "\n"))
      } else {
        writeOdd(field)
      }
    }
  }

  /// A field with other bytes than printable ASCII in its value, for the export format.
  @inline(never)
  private mutating func writeOdd(_ field: Field) {
    if Printable.isText(field.value, field.valueLength),
      memchr(field.value, 0x0a, field.valueLength) == nil
    {
      out.append(field.data, field.length)
    } else {
      out.append(field.data, field.name)
      out.append(UInt8(ascii: "\n"))
      var size = UInt64(field.valueLength).littleEndian
      withUnsafeBytes(of: &size) {
        guard let bytes = $0.baseAddress else { return }
        out.append(bytes.assumingMemoryBound(to: UInt8.self), 8)
      }
      out.append(field.value, field.valueLength)
    }
    out.append(UInt8(ascii: "\n"))
  }

  /// - Returns: false when the cursor cannot be had.
  mutating func writeCursor(_ journal: OpaquePointer, before text: StaticString) -> Bool {
    var cursor: UnsafeMutablePointer<CChar>?
    guard sd_journal_get_cursor(journal, &cursor) >= 0, let cursor else { return false }
    defer { free(cursor) }
    out.append(text)
    let count = strlen(cursor)
    cursor.withMemoryRebound(to: UInt8.self, capacity: count) { out.append($0, count) }
    return true
  }
}

/// A boot's id.
struct Boot: Equatable {
  var id = sd_id128_t()

  /// Of this system, as 32 hexadecimal digits.
  static var current: String? {
    var boot = Boot()
    return sd_id128_get_boot(&boot.id) >= 0 ? boot.text : nil
  }

  var text: String {
    var out = ByteBuffer(capacity: 32)
    write(to: &out)
    return String(decoding: out.array(), as: UTF8.self)
  }

  func write(to out: inout ByteBuffer) {
    withUnsafeBytes(of: id) {
      guard let bytes = $0.baseAddress else { return }
      out.append(hexadecimal: bytes.assumingMemoryBound(to: UInt8.self), 16)
    }
  }

  static func == (a: Boot, b: Boot) -> Bool {
    a.id.qwords.0 == b.id.qwords.0 && a.id.qwords.1 == b.id.qwords.1
  }
}
