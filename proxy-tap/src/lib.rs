//! The data plane: forwards traffic, observes it, obeys hints.
