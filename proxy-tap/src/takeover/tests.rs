use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::drain::Drain;

/// A process that serves: what it holds, and its socket in a folder of its own.
struct Old {
    folder: tempfile::TempDir,
    drain: Arc<Drain>,
    address: SocketAddr,
    run: JoinHandle<()>,
}

impl Old {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held = vec![Held { door: "inbound".into(), address, listeners: vec![listener] }];
        let mut offer = Offer::bind(&folder.path().join("sock")).unwrap();
        offer.open().unwrap();
        let drain = Drain::new();
        let leaving = Arc::clone(&drain);
        let run = tokio::spawn(async move { offer.run(held, &leaving).await });
        Self { folder, drain, address, run }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    async fn claim(&self, door: &str, address: &str) -> Result<Option<Predecessor>, TakeoverError> {
        claim(&self.path(), &[(door.to_owned(), address.parse().unwrap())]).await
    }
}

#[tokio::test]
async fn connections_that_wait_go_with_their_listener() {
    let old = Old::start();
    let waiting = std::net::TcpStream::connect(old.address).unwrap();
    let mut from = old.claim("inbound", &old.address.to_string()).await.unwrap().unwrap();
    let given = std::mem::take(&mut from.listeners);
    assert_eq!((given.len(), &*given[0].door, given[0].address), (1, "inbound", old.address));
    let (_, peer) = given[0].listeners[0].accept().unwrap();
    assert_eq!(peer, waiting.local_addr().unwrap());
    from.prepared().await.unwrap();
    assert_eq!(old.drain.stage(), "serving");
    from.serving().await;
    old.drain.leave.cancelled().await;
    assert_eq!(old.drain.stage(), "draining");
    old.run.await.unwrap();
    // The last holder is the new process.
    assert!(std::net::TcpStream::connect(old.address).is_ok());
    drop(given);
    assert!(std::net::TcpStream::connect(old.address).is_err());
}

#[tokio::test]
async fn what_is_asked_for_is_given_and_nothing_else() {
    let old = Old::start();
    for (door, address, given) in [
        ("inbound", old.address.to_string(), 1),
        ("inbound", "127.0.0.1:0".to_owned(), 1),
        ("inbound", "127.0.0.1:1".to_owned(), 0),
        ("inbound", "127.0.0.2:0".to_owned(), 0),
        ("capture", old.address.to_string(), 0),
    ] {
        let from = old.claim(door, &address).await.unwrap().unwrap();
        assert_eq!(from.listeners.len(), given, "{door} {address}");
    }
    assert_eq!(old.drain.stage(), "serving");
}

#[tokio::test]
async fn a_new_process_that_fails_changes_nothing() {
    let old = Old::start();
    let any = "127.0.0.1:0";
    drop(old.claim("inbound", any).await.unwrap().unwrap());
    let from = old.claim("inbound", any).await.unwrap().unwrap();
    from.prepared().await.unwrap();
    drop(from);
    let from = old.claim("inbound", any).await.unwrap().unwrap();
    assert_eq!((from.listeners.len(), old.drain.stage(), old.drain.is_ready()), (1, "serving", true));
}

#[tokio::test]
async fn an_old_process_that_ends_early_leaves_what_it_gave() {
    let old = Old::start();
    let from = old.claim("inbound", "127.0.0.1:0").await.unwrap().unwrap();
    old.run.abort();
    from.prepared().await.unwrap();
    assert!(std::net::TcpStream::connect(old.address).is_ok());
}

#[tokio::test]
async fn another_version_and_nonsense_are_declined_with_a_reason() {
    let old = Old::start();
    for (first, reason) in [
        (Message::Hello { version: 2 }, "version 2 of the conversation"),
        (Message::Serving, "said what it should not: Serving"),
    ] {
        let channel = Channel::connect(&old.path()).unwrap();
        channel.send(&first, &[]).await.unwrap();
        match channel.receive(STEP).await.unwrap().0 {
            Message::Refused { reason: told } => assert!(told.contains(reason), "{told}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(old.claim("inbound", "127.0.0.1:0").await.unwrap().unwrap().listeners.len(), 1);
}

#[tokio::test]
async fn what_is_no_listener_of_the_address_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = vec![Held { door: "inbound".into(), address, listeners: vec![other] }];
    let mut offer = Offer::bind(&folder.path().join("sock")).unwrap();
    offer.open().unwrap();
    let drain = Drain::new();
    tokio::spawn(async move { offer.run(held, &drain).await });
    let error = claim(&folder.path().join("sock"), &[("inbound".into(), address)]).await.unwrap_err();
    assert!(matches!(error, TakeoverError::Unexpected(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_says_nothing_is_not_waited_for() {
    let old = Old::start();
    let silent = Channel::connect(&old.path()).unwrap();
    let told = silent.receive(STEP * 3).await.unwrap().0;
    assert!(matches!(told, Message::Refused { reason } if reason.contains("within 5 s")));
    assert_eq!(old.drain.stage(), "serving");
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_other_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    assert!(claim(&path, &[]).await.unwrap().is_none());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut offer = Offer::bind(&path).unwrap();
    assert!(folder.path().join("sock.new").exists());
    offer.open().unwrap();
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!((found.file_type().is_socket(), found.permissions().mode() & 0o777), (true, 0o600));
    assert!(!folder.path().join("sock.new").exists());
    // The one that was replaced leaves the file of its successor alone.
    let mut next = Offer::bind(&path).unwrap();
    next.open().unwrap();
    drop(offer);
    assert!(path.exists());
    drop(next);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(claim(&path, &[]).await, Err(TakeoverError::NoSocket)));
    assert!(matches!(Offer::bind(&path), Err(TakeoverError::NoSocket)));
}

#[tokio::test]
async fn a_proxy_that_leaves_offers_nothing() {
    let old = Old::start();
    let left: CancellationToken = old.drain.leave.clone();
    left.cancel();
    old.run.await.unwrap();
    assert!(claim(&old.folder.path().join("sock"), &[]).await.unwrap().is_none());
}
