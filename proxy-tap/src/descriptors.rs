//! File descriptors: as many as the system allows, in a table that has room for them from the start.

use std::fs::File;
use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weir_model::limits;

/// Descriptors for which there is room: a caller's connection and one to an endpoint for each that is served, and one
/// that is idle for each endpoint.
const ROOM: u64 = 2 * limits::PROXY_CONNECTIONS as u64 + limits::PROXY_ENDPOINTS as u64;

/// Raises the limit on open files as far as it may be raised, and makes room for as many as a proxy needs.
///
/// The kernel's table doubles when it is full, and in a process of several threads whoever opened the connection that
/// did not fit waits for an RCU grace period then: some milliseconds, for which nobody else of its worker is served.
pub fn make_room() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let most = limit.maximum.unwrap_or(u64::MAX).min(ROOM);
    let last = i32::try_from(most.saturating_sub(1)).unwrap_or(i32::MAX);
    fcntl_dupfd_cloexec(File::open("/dev/null")?, last)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_has_room_for_all_connections() {
        make_room().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let told = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        let expected = limit.maximum.unwrap_or(u64::MAX).min(ROOM);
        assert!(told.trim().parse::<u64>().unwrap() >= expected, "{told}, {limit:?}");
    }
}
