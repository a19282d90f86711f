//! The web app, and the small crate that embeds it.
