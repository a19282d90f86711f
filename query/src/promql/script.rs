//! Conformance scripts.
