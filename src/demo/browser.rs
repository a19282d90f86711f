//! Opens the page in the user's browser, where there is a desktop to open it on.

use std::process::{Command, Stdio};

/// Asks the desktop to show `url`; `false` where there is none, as on a server.
pub(crate) fn open_browser(url: &str) -> bool {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if !desktop && cfg!(not(target_os = "macos")) {
        return false;
    }
    let mut command = Command::new(opener);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // The opener hands over to the browser and ends; nobody needs to wait for it.
    command.spawn().is_ok()
}
