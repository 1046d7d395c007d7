import HTTP

// `GET /v2/openapi.json`: what every route takes and answers.
extension DeviceAPI {
  func document() -> Response {
    let text = OpenAPIDocument.text
    return Response(
      200, contentType: "application/json; charset=utf-8",
      body: Array(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)))
  }
}
