enum OpenAPIDocument { static let text: StaticString = "{}" }
