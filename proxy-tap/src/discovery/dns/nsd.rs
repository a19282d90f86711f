//! Debian's NSD, an authoritative server, with a zone of the test's and at a loopback address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::discovery::scratch::{Folder, built};

/// Its package, and those of libraries that not every system has.
const PACKAGES: [&str; 4] = ["nsd", "libfstrm0", "libprotobuf-c1", "libevent-2.1-7"];

/// A server of `shop.test`, ended when dropped.
pub(super) struct Nsd {
    pub(super) address: SocketAddr,
    folder: Folder,
    process: Option<Child>,
}

impl Nsd {
    /// Starts a server of these records. It may take a moment until it answers.
    pub(super) fn start(records: &str) -> Self {
        // A port that was free a moment ago may be a client's by now; on this address there are none.
        static STARTED: AtomicU8 = AtomicU8::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 + STARTED.fetch_add(1, Ordering::Relaxed) % 128, high, low.max(1));
        let address = SocketAddr::from((ip, 5_300));
        let mut nsd = Self { address, folder: Folder::new(), process: None };
        nsd.write(records);
        nsd.restart();
        nsd
    }

    /// Changes the records of a server that runs; it takes a moment.
    pub(super) fn change(&self, records: &str) {
        self.write(records);
        self.signal("HUP");
    }

    /// Changes the records of a server that does not run, or that starts without knowing any and fails.
    pub(super) fn write(&self, records: &str) {
        let zone = format!(
            "$ORIGIN shop.test.\n\
             @ 60 IN SOA ns.shop.test. root.shop.test. 1 3600 600 86400 1\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\n\
             {records}\n"
        );
        std::fs::write(self.folder.path().join("zone"), zone).unwrap();
    }

    /// Takes the records away; a server that is started then answers SERVFAIL.
    pub(super) fn forget(&self) {
        std::fs::remove_file(self.folder.path().join("zone")).unwrap();
    }

    pub(super) fn stop(&mut self) {
        self.signal("TERM");
        self.process.take().unwrap().wait().unwrap();
    }

    pub(super) fn restart(&mut self) {
        let folder = self.folder.path();
        let (shown, address) = (folder.display(), self.address);
        let config = format!(
            "server:\n ip-address: {}@{}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{shown}\"\n \
             zonelistfile: \"{shown}/list\"\n pidfile: \"\"\n xfrdfile: \"\"\n xfrdir: \"{shown}\"\n \
             database: \"\"\n server-count: 1\n zonefiles-check: yes\n\
             remote-control:\n control-enable: no\nzone:\n name: shop.test\n zonefile: zone\n",
            address.ip(),
            address.port()
        );
        std::fs::write(folder.join("nsd.conf"), config).unwrap();
        let unpacked = unpacked();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        // Debian has a folder of libraries for each architecture.
        let libraries = std::fs::read_dir(unpacked.join("usr/lib")).unwrap();
        let libraries: Vec<_> = libraries.map(|entry| entry.unwrap().path()).collect();
        let process = Command::new(unpacked.join("usr/sbin/nsd"))
            .env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap())
            .arg("-d")
            .arg("-c")
            .arg(folder.join("nsd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// What it said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            let mut kill = Command::new("kill");
            assert!(kill.arg(format!("-{name}")).arg(process.id().to_string()).status().unwrap().success());
        }
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Asked to, it ends its children as well.
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }
}

/// Where the packages are unpacked, which happens on the first run.
fn unpacked() -> PathBuf {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    let unpack = || {
        let folder = built().join("debian");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/debian.sh");
        let output = Command::new("sh").arg(script).arg(&folder).args(PACKAGES).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "NSD is not there; run `make setup-test`:\n{said}");
        folder
    };
    UNPACKED.get_or_init(unpack).clone()
}
