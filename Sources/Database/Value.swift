/// A value to bind to a parameter of a statement.
public nonisolated enum Value: Sendable, Hashable {
  case null
  case integer(Int)
  case text(String)

  public init(_ value: String?) { self = value.map(Value.text) ?? .null }
  public init(_ value: Int?) { self = value.map(Value.integer) ?? .null }
  public init(_ value: Bool) { self = .integer(value ? 1 : 0) }
}

nonisolated extension Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByNilLiteral
{
  public init(stringLiteral value: String) { self = .text(value) }
  public init(integerLiteral value: Int) { self = .integer(value) }
  public init(nilLiteral: ()) { self = .null }
}
