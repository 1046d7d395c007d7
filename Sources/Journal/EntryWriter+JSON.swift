import CSystemd

extension EntryWriter {
  /// Values from this size on are `null` without `--all`, name and equals sign included.
  private static let longField = 4096

  /// One object for each entry. Fields stand in the order of the journal, the address fields first;
  /// a field that occurs more than once becomes an array in the place of its first value.
  mutating func writeJSON(_ journal: OpaquePointer) -> Bool {
    let start = out.count
    guard let address = Self.address(journal), openObject(journal, address) else { return false }
    names.begin()
    var data = UnsafePointer(out.base)
    var length = 0
    sd_journal_restart_data(journal)
    while true {
      let result = Self.next(journal, &data, &length)
      if result <= 0 {
        closeObject()
        return result == 0
      }
      switch names.find(data, length) {
      case .invalid: continue
      case .name(let name, let number) where names.insert(number):
        let field = Field(data: data, length: length, name: name)
        if name == 8, field.hasPrefix("_BOOT_ID=") { continue }
        let lead = names.lead(number)
        out.append(lead.text, lead.count)
        writeValue(field, depth: 1)
      default:
        out.count = start
        return openObject(journal, address) && writeGroupedJSON(journal)
      }
    }
  }

  private var isPretty: Bool { format == .jsonPretty }

  private mutating func openObject(_ journal: OpaquePointer, _ address: Address) -> Bool {
    switch format {
    case .jsonPretty:
      guard writeCursor(journal, before: "{\n\t\"__CURSOR\" : \"") else { return false }
      out.append("\",\n\t\"__REALTIME_TIMESTAMP\" : \"")
      out.append(decimal: address.realtime)
      out.append("\",\n\t\"__MONOTONIC_TIMESTAMP\" : \"")
      out.append(decimal: address.monotonic)
      out.append("\",\n\t\"_BOOT_ID\" : \"")
    default:
      if format == .jsonSSE { out.append("data: ") }
      if format == .jsonSeq { out.append(0x1e) }
      guard writeCursor(journal, before: "{\"__CURSOR\":\"") else { return false }
      out.append("\",\"__REALTIME_TIMESTAMP\":\"")
      out.append(decimal: address.realtime)
      out.append("\",\"__MONOTONIC_TIMESTAMP\":\"")
      out.append(decimal: address.monotonic)
      out.append("\",\"_BOOT_ID\":\"")
    }
    address.boot.write(to: &out)
    out.append(UInt8(ascii: "\""))
    return true
  }

  private mutating func closeObject() {
    switch format {
    case .jsonPretty: out.append("\n}\n")
    case .jsonSSE: out.append("}\n\n")
    default: out.append("}\n")
    }
  }

  @inline(__always)
  private mutating func writeName(_ name: UnsafePointer<UInt8>, _ count: Int) {
    out.reserve(count + 8)
    if isPretty {
      out.append(",\n\t\"")
      out.append(name, count)
      out.append("\" : ")
    } else {
      out.append(",\"")
      out.append(name, count)
      out.append("\":")
    }
  }

  @inline(__always)
  private mutating func writeValue(_ field: Field, depth: Int) {
    if field.length >= Self.longField, !showsAll { return out.append("null") }
    let value = field.value
    let count = field.valueLength
    // The most common value by far is plain ASCII.
    out.reserve(count + 10)
    let position = out.count
    out.base[position] = UInt8(ascii: "\"")
    let plain = csystemd_copy_plain(out.base + position + 1, value, count)
    if plain == count {
      out.base[position + 1 + plain] = UInt8(ascii: "\"")
      out.count = position + plain + 2
      return
    }
    out.count = position + 1 + plain
    guard !writeEscaped(value + plain, count - plain) else { return }
    out.count = position
    writeBytes(value, count, depth: depth)
  }

  /// The rest of a string from its first byte that cannot stand as it is, and the closing quote.
  ///
  /// - Returns: false when it is not printable text.
  @inline(never)
  private mutating func writeEscaped(_ text: UnsafePointer<UInt8>, _ count: Int) -> Bool {
    out.reserve(2 * count + 10)
    var position = 0
    while position < count {
      let plain = csystemd_copy_plain(out.base + out.count, text + position, count - position)
      position += plain
      out.count += plain
      guard position < count else { break }
      switch text[position] {
      case UInt8(ascii: "\n"): out.append("\\n")
      case UInt8(ascii: "\t"): out.append("\\t")
      case UInt8(ascii: "\""): out.append("\\\"")
      case UInt8(ascii: "\\"): out.append("\\\\")
      default:
        let length = Printable.length(text + position, count - position)
        guard length > 0 else { return false }
        out.append(text + position, length)
        position += length - 1
      }
      position += 1
    }
    out.append(UInt8(ascii: "\""))
    return true
  }

  /// What is not text is an array of its bytes.
  @inline(never)
  private mutating func writeBytes(_ bytes: UnsafePointer<UInt8>, _ count: Int, depth: Int) {
    out.append(UInt8(ascii: "["))
    for index in 0..<count {
      if isPretty {
        out.append(index > 0 ? ",\n" : "\n")
        out.append(UInt8(ascii: "\t"), times: depth + 1)
      } else if index > 0 {
        out.append(UInt8(ascii: ","))
      }
      out.append(decimal: UInt64(bytes[index]))
    }
    if isPretty {
      out.append(UInt8(ascii: "\n"))
      out.append(UInt8(ascii: "\t"), times: depth)
    }
    out.append(UInt8(ascii: "]"))
  }

  // MARK: Fields that occur more than once

  private struct Kept {
    var offset: Int
    var length: Int
    var name: Int
    var next: Int?
    var isFirst = true
  }

  /// The slow way, for entries with repeated fields: all values are kept and put together by name.
  @inline(never)
  private mutating func writeGroupedJSON(_ journal: OpaquePointer) -> Bool {
    scratch.removeAll(keeping: Self.bufferBytes)
    var kept: [Kept] = []
    var data = UnsafePointer(out.base)
    var length = 0
    sd_journal_restart_data(journal)
    while true {
      let result = Self.next(journal, &data, &length)
      guard result >= 0 else { return false }
      guard result > 0 else { break }
      guard let name = Self.name(data, length) else { continue }
      if Field(data: data, length: length, name: name.length).hasPrefix("_BOOT_ID=") { continue }
      var field = Kept(offset: scratch.count, length: length, name: name.length)
      scratch.append(data, length)
      let earlier = kept.lastIndex {
        $0.name == name.length && memcmp(scratch.base + $0.offset, data, name.length) == 0
      }
      if let earlier {
        kept[earlier].next = kept.count
        field.isFirst = false
      }
      kept.append(field)
    }
    for field in kept where field.isFirst {
      writeName(scratch.base + field.offset, field.name)
      if field.next == nil { writeValue(view(field), depth: 1) } else { writeArray(field, of: kept) }
    }
    closeObject()
    return true
  }

  private mutating func writeArray(_ first: Kept, of kept: [Kept]) {
    out.append(UInt8(ascii: "["))
    var field = first
    while true {
      if isPretty { out.append("\n\t\t") }
      writeValue(view(field), depth: 2)
      guard let next = field.next else { break }
      out.append(UInt8(ascii: ","))
      field = kept[next]
    }
    out.append(isPretty ? "\n\t]" : "]")
  }

  private func view(_ kept: Kept) -> Field {
    Field(data: UnsafePointer(scratch.base + kept.offset), length: kept.length, name: kept.name)
  }
}
