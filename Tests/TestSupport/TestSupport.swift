// see LoopDriver
