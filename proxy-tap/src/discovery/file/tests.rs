use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::discovery::scratch::Folder;

type Told = (String, Option<Vec<Endpoint>>);

/// A file that is watched.
struct Watched {
    folder: Folder,
    told: mpsc::UnboundedReceiver<Told>,
    status: Arc<Status>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watched {
    fn start(content: &str) -> Self {
        let folder = Folder::new();
        let (tell, told) = mpsc::unbounded_channel();
        let (status, stop) = (Arc::<Status>::default(), CancellationToken::new());
        let path = folder.path().join("endpoints.json");
        std::fs::write(&path, content).unwrap();
        let known = known(&config::services(&path, content.as_bytes()).unwrap());
        let apply = move |service: &str, endpoints| tell.send((service.to_owned(), endpoints)).unwrap();
        let task = tokio::spawn(run(path, known, apply, Arc::clone(&status), stop.clone()));
        Self { folder, told, status, stop, task }
    }

    /// Writes as an editor does, so that nobody sees half of it.
    fn write(&self, content: &str) {
        let aside = self.folder.path().join("aside");
        std::fs::write(&aside, content).unwrap();
        std::fs::rename(&aside, self.folder.path().join("endpoints.json")).unwrap();
    }

    async fn next(&mut self) -> (String, Option<Vec<String>>) {
        let (service, told) = timeout(Duration::from_secs(5), self.told.recv()).await.unwrap().unwrap();
        (service, told.map(|told| told.into_iter().map(|endpoint| endpoint.address).collect()))
    }

    async fn until(&self, loads: u64, failures: u64) {
        let reached = async {
            while self.status.counts() != [("loads", loads), ("failures", failures)] {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(Duration::from_secs(5), reached).await;
        assert!(reached.is_ok(), "{:?}", self.status.counts());
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn services_come_change_and_go_with_the_file() {
    let mut file = Watched::start(r#"{"cart": [{"address": "a:1"}], "ads": [{"address": "b:1"}]}"#);
    file.until(1, 0).await;
    assert!(file.told.try_recv().is_err(), "what is known is no news");

    file.write(
        r#"{"cart": [{"address": "a:1"}, {"address": "a:2"}], "pay": [], "ads": [{"address": "b:1"}]}"#,
    );
    assert_eq!(file.next().await, ("cart".into(), Some(vec!["a:1".into(), "a:2".into()])));
    assert_eq!(file.next().await, ("pay".into(), Some(vec![])));
    file.write(r#"{"cart": [{"address": "a:1", "weight": 3}], "pay": []}"#);
    assert_eq!(file.next().await, ("cart".into(), Some(vec!["a:1".into()])));
    assert_eq!(file.next().await, ("ads".into(), None));
    file.write(r#"{"cart": [{"weight": 3, "address": "a:1"}], "pay": []}"#);
    file.until(4, 0).await;
    assert!(file.told.try_recv().is_err(), "other words for the same are no news");
    file.end().await;
}

#[tokio::test]
async fn a_broken_file_is_reported_and_changes_nothing() {
    let mut file = Watched::start(r#"{"cart": [{"address": "a:1"}]}"#);
    file.until(1, 0).await;
    file.write(r#"{"cart": [{"address": "x", "weight": -1}, {"address": "a:1", "zone": "a b"}]}"#);
    file.until(1, 1).await;
    let path = file.folder.path().join("endpoints.json");
    let at = |place: &str| format!("--endpoints {}#cart{place}", path.display());
    let flags: Vec<_> = file.status.mistakes().into_iter().map(|mistake| mistake.flag).collect();
    assert_eq!(flags, [at("[0].address"), at("[0].weight"), at("[1].zone")]);

    std::fs::remove_file(&path).unwrap();
    file.until(1, 2).await;
    assert!(file.status.mistakes()[0].expected.starts_with("a readable file"));
    file.write(r#"{"cart": [{"address": "a:2"}]}"#);
    assert_eq!(file.next().await, ("cart".into(), Some(vec!["a:2".into()])));
    assert!(file.status.mistakes().is_empty());
    file.end().await;
}

#[test]
fn a_change_that_does_not_show_is_seen_by_reading() {
    let folder = Folder::new();
    let path = folder.path().join("endpoints.json");
    let write = |content: &str| {
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    let mut last = Last::default();
    write(r#"{"cart": [{"address": "a:1"}]}"#);
    assert!(last.look(&path, true).unwrap().is_ok());
    assert!(last.look(&path, true).is_none());
    write(r#"{"cart": [{"address": "a:2"}]}"#);
    assert!(last.look(&path, false).is_none(), "same time, same length");
    assert_eq!(last.look(&path, true).unwrap().unwrap()["cart"][0].address, "a:2");
}
