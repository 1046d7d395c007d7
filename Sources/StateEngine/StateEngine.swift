// Filled in by the first complete cut.
