import EventLoop
import Testing

/// One at a time: the tests share the one loop.
@Suite(.serialized) struct EventLoopTests {}
