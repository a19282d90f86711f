//! The HTTP routes that people and tools read.
