/// The way to answer a request later; see `Request.deferAnswer`.
///
/// A responder that nobody keeps any more without having answered answers 503 by itself: a
/// client must not wait for nothing.
public final class Responder {
  /// Set once the handler has returned without an answer.
  var connection: Connection?
  /// An answer given while the handler was still running.
  var early: Response?
  /// Whether the client went away before it was answered.
  public private(set) var isCancelled = false
  private var isSpent = false
  private var cancelActions: [() -> Void] = []

  init() {}

  /// Sends the answer. The first one counts; none does when the client has gone.
  public func respond(_ response: Response) {
    guard !isSpent else { return }
    isSpent = true
    cancelActions = []
    if let connection = connection.take() {
      connection.finishDeferred(with: response)
    } else {
      early = response
    }
  }

  /// Runs `action` when the client goes away before the answer; at once when it has gone.
  public func onCancel(_ action: @escaping () -> Void) {
    if isCancelled {
      action()
    } else if !isSpent {
      cancelActions.append(action)
    }
  }

  /// The handler answered by its result.
  func retire() {
    isSpent = true
    cancelActions = []
  }

  func cancel() {
    guard !isSpent else { return }
    isSpent = true
    isCancelled = true
    connection = nil
    let actions = cancelActions
    cancelActions = []
    for action in actions { action() }
  }

  deinit {
    guard !isSpent, let connection else { return }
    // Only this responder could have answered, so the connection still waits for it.
    Task { @MainActor in
      connection.finishDeferred(with: .failed(503, "The request was not answered"))
    }
  }
}
