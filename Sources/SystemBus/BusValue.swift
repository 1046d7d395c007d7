import CSystemd

/// A value of a D-Bus message (D-Bus specification, Type System).
public nonisolated indirect enum BusValue: Sendable, Hashable {
  case boolean(Bool)
  case byte(UInt8)
  case int16(Int16)
  case uint16(UInt16)
  case int32(Int32)
  case uint32(UInt32)
  case int64(Int64)
  case uint64(UInt64)
  case double(Double)
  case string(String)
  case objectPath(String)
  case signature(String)
  /// Items of one type; `signature` is that of an item.
  case array(signature: String, [BusValue])
  case structure([BusValue])
  case entry(key: BusValue, value: BusValue)
  case variant(BusValue)

  /// Text of a string, object path or signature, also out of a variant.
  public var text: String? {
    switch self {
    case .string(let text), .objectPath(let text), .signature(let text): text
    case .variant(let value): value.text
    default: nil
    }
  }

  public var bool: Bool? {
    switch self {
    case .boolean(let flag): flag
    case .variant(let value): value.bool
    default: nil
    }
  }

  /// Items of an array, also out of a variant; nil for another type.
  public var items: [BusValue]? {
    switch self {
    case .array(_, let items): items
    case .variant(let value): value.items
    default: nil
    }
  }

  /// An array of strings.
  public static func strings(_ texts: [String]) -> BusValue {
    .array(signature: "s", texts.map(BusValue.string))
  }

  /// The type's code in signatures.
  public var signature: String {
    switch self {
    case .boolean: "b"
    case .byte: "y"
    case .int16: "n"
    case .uint16: "q"
    case .int32: "i"
    case .uint32: "u"
    case .int64: "x"
    case .uint64: "t"
    case .double: "d"
    case .string: "s"
    case .objectPath: "o"
    case .signature: "g"
    case .array(let item, _): "a\(item)"
    case .structure(let fields): "(\(fields.map(\.signature).joined()))"
    case .entry(let key, let value): "{\(key.signature)\(value.signature)}"
    case .variant: "v"
    }
  }
}

// MARK: - Messages

extension BusValue {
  private static func code(_ type: String) -> CChar { type.utf8CString[0] }

  /// Appends the value to a message that is being made.
  ///
  /// - Returns: a negative errno(3) when sd-bus refuses it, such as EINVAL for a path that is none.
  func append(to message: OpaquePointer) -> Int32 {
    func basic<Value: BitwiseCopyable>(_ value: Value) -> Int32 {
      withUnsafePointer(to: value) { sd_bus_message_append_basic(message, Self.code(signature), $0) }
    }
    func container(_ type: String, _ contents: String, _ values: [BusValue]) -> Int32 {
      var status = sd_bus_message_open_container(message, Self.code(type), contents)
      for value in values where status >= 0 { status = value.append(to: message) }
      return status < 0 ? status : sd_bus_message_close_container(message)
    }
    switch self {
    case .boolean(let flag): return basic(Int32(flag ? 1 : 0))
    case .byte(let number): return basic(number)
    case .int16(let number): return basic(number)
    case .uint16(let number): return basic(number)
    case .int32(let number): return basic(number)
    case .uint32(let number): return basic(number)
    case .int64(let number): return basic(number)
    case .uint64(let number): return basic(number)
    case .double(let number): return basic(number)
    case .string(let text), .objectPath(let text), .signature(let text):
      return text.withCString { sd_bus_message_append_basic(message, Self.code(signature), $0) }
    case .array(let item, let items): return container("a", item, items)
    case .structure(let fields): return container("r", fields.map(\.signature).joined(), fields)
    case .entry(let key, let value): return container("e", key.signature + value.signature, [key, value])
    case .variant(let value): return container("v", value.signature, [value])
    }
  }

  /// All values of a message; nil when it is malformed, or has a type that is not known here.
  static func read(_ message: OpaquePointer) -> [BusValue]? {
    var values: [BusValue] = []
    while sd_bus_message_at_end(message, 0) == 0 {
      guard let value = next(message) else { return nil }
      values.append(value)
    }
    return values
  }

  private static func next(_ message: OpaquePointer) -> BusValue? {
    var type: CChar = 0
    var contents: UnsafePointer<CChar>?
    guard sd_bus_message_peek_type(message, &type, &contents) > 0 else { return nil }
    func basic<Value: BitwiseCopyable>(_ zero: Value) -> Value? {
      var value = zero
      return sd_bus_message_read_basic(message, type, &value) > 0 ? value : nil
    }
    func text() -> String? {
      var pointer: UnsafePointer<CChar>?
      guard sd_bus_message_read_basic(message, type, &pointer) > 0, let pointer else { return nil }
      return String(cString: pointer)
    }
    func container() -> [BusValue]? {
      guard sd_bus_message_enter_container(message, type, contents) > 0, let values = read(message),
        sd_bus_message_exit_container(message) >= 0
      else { return nil }
      return values
    }
    switch Character(Unicode.Scalar(UInt8(bitPattern: type))) {
    case "b": return basic(Int32(0)).map { .boolean($0 != 0) }
    case "y": return basic(UInt8(0)).map(BusValue.byte)
    case "n": return basic(Int16(0)).map(BusValue.int16)
    case "q": return basic(UInt16(0)).map(BusValue.uint16)
    case "i": return basic(Int32(0)).map(BusValue.int32)
    case "u": return basic(UInt32(0)).map(BusValue.uint32)
    case "x": return basic(Int64(0)).map(BusValue.int64)
    case "t": return basic(UInt64(0)).map(BusValue.uint64)
    case "d": return basic(Double(0)).map(BusValue.double)
    case "s": return text().map(BusValue.string)
    case "o": return text().map(BusValue.objectPath)
    case "g": return text().map(BusValue.signature)
    case "a":
      let item = contents.map { String(cString: $0) } ?? ""
      return container().map { .array(signature: item, $0) }
    case "r": return container().map(BusValue.structure)
    case "e":
      guard let pair = container(), pair.count == 2 else { return nil }
      return .entry(key: pair[0], value: pair[1])
    case "v":
      guard let values = container(), let value = values.first else { return nil }
      return .variant(value)
    default: return nil
    }
  }
}
