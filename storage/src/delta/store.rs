//! An object store on the local disk that syncs, which neither Delta Lake's nor `object_store`'s own does.
//!
//! An object is written beside its place, synced, then linked (to create) or renamed (to replace), and its
//! directory is synced. A failed sync stops the storage: whether the commit is durable can then not be
//! known, and the write-ahead log must not be cut behind it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::durable;
use crate::health::Health;

/// The local file system from its root on, with syncs.
#[derive(Debug)]
pub(crate) struct SyncedStore {
    inner: LocalFileSystem,
    place: Place,
    /// Numbers unfinished objects.
    next: AtomicU64,
}

#[derive(Debug, Clone)]
struct Place {
    staging: PathBuf,
    health: Arc<Health>,
}

impl SyncedStore {
    /// A store whose unfinished objects are in the folder `staging`.
    pub(crate) fn new(staging: PathBuf, health: Arc<Health>) -> Self {
        Self { inner: LocalFileSystem::new(), place: Place { staging, health }, next: AtomicU64::new(0) }
    }

    /// The name of an unfinished object.
    fn staged(&self) -> PathBuf {
        self.place.staging.join(format!("object-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Place {
    fn put(&self, staged: &Path, to: &Path, payload: &PutPayload, mode: &PutMode) -> Result<PutResult> {
        let done = self.stage(staged, payload).and_then(|()| self.name(staged, to, mode));
        let _ = fs::remove_file(staged); // a rename has taken it away; a link or a failure has not
        done.map(|()| PutResult { e_tag: None, version: None })
    }

    fn stage(&self, staged: &Path, payload: &PutPayload) -> Result<()> {
        let mut file = File::create_new(staged).map_err(generic)?;
        for part in payload {
            file.write_all(part).map_err(generic)?;
        }
        self.checked(durable::sync_file(&file))
    }

    /// Gives the staged object its name.
    fn name(&self, staged: &Path, to: &Path, mode: &PutMode) -> Result<()> {
        let dir = to.parent().unwrap_or(Path::new("/"));
        self.checked(durable::create_dir(dir))?;
        match mode {
            PutMode::Create => fs::hard_link(staged, to).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => {
                    Error::AlreadyExists { path: to.display().to_string(), source: Box::new(e) }
                }
                _ => generic(e),
            })?,
            PutMode::Overwrite => fs::rename(staged, to).map_err(generic)?,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update".to_owned(),
                    implementer: "the local disk".to_owned(),
                });
            }
        }
        self.checked(durable::sync_dir(dir))
    }

    /// Syncs an object that another hand wrote.
    fn sync(&self, path: &Path) -> Result<()> {
        self.checked(File::open(path).and_then(|file| durable::sync_file(&file)))?;
        self.checked(durable::sync_dir(path.parent().unwrap_or(Path::new("/"))))
    }

    fn checked(&self, result: io::Result<()>) -> Result<()> {
        result.map_err(|e| {
            if durable::is_unsynced(&e) {
                self.health.stop(format!("a table's log {e}"));
            }
            generic(e)
        })
    }
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "local disk", source: Box::new(source) }
}

fn path_of(location: &Location) -> PathBuf {
    Path::new("/").join(location.as_ref())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

impl std::fmt::Display for SyncedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the local disk, synced")
    }
}

#[async_trait]
impl ObjectStore for SyncedStore {
    async fn put_opts(&self, to: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let place = self.place.clone();
        let (staged, to) = (self.staged(), path_of(to));
        blocking(move || place.put(&staged, &to, &payload, &options.mode)).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Location,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let staged = self.staged();
        Ok(Box::new(SyncedUpload { parts: Vec::new(), staged, to: path_of(to), place: self.place.clone() }))
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Location>>,
    ) -> BoxStream<'static, Result<Location>> {
        self.inner.delete_stream(locations) // an old log entry that comes back after a crash does no harm
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Location>,
        offset: &Location,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        let (place, path) = (self.place.clone(), path_of(to));
        blocking(move || place.sync(&path)).await
    }
}

/// An upload in parts. They are checkpoints of some megabytes: held until complete, then put like any
/// other object, so that none is ever named before it is synced.
#[derive(Debug)]
struct SyncedUpload {
    parts: Vec<PutPayload>,
    staged: PathBuf,
    to: PathBuf,
    place: Place,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = std::mem::take(&mut self.parts);
        let (place, staged, to) = (self.place.clone(), self.staged.clone(), self.to.clone());
        blocking(move || {
            let whole = parts.iter().flatten().cloned().collect();
            place.put(&staged, &to, &whole, &PutMode::Overwrite)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
