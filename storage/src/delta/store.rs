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
}

impl Place {
    fn put(&self, staged: &Path, to: &Path, payload: &PutPayload, mode: &PutMode) -> Result<PutResult> {
        let dir = to.parent().unwrap_or(Path::new("/"));
        durable::create_dir(dir).map_err(generic)?;
        let mut file = File::create_new(staged).map_err(generic)?;
        for part in payload {
            file.write_all(part).map_err(generic)?;
        }
        self.synced(file.sync_all())?;
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
        self.synced(durable::sync_dir(dir))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    /// Syncs an object that another hand wrote.
    fn sync(&self, path: &Path) -> Result<()> {
        self.synced(File::open(path).and_then(|file| file.sync_all()))?;
        self.synced(durable::sync_dir(path.parent().unwrap_or(Path::new("/"))))
    }

    fn synced(&self, result: io::Result<()>) -> Result<()> {
        result.map_err(|e| {
            self.health.stop(format!("a table's log cannot be synced: {e}"));
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
        let staged = place.staging.join(format!("object-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let to = path_of(to);
        blocking(move || {
            let done = place.put(&staged, &to, &payload, &options.mode);
            let _ = fs::remove_file(&staged); // a rename has taken it away; a link or a failure has not
            done
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        to: &Location,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = path_of(to);
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        blocking(move || durable::create_dir(&dir).map_err(generic)).await?;
        let inner = self.inner.put_multipart_opts(to, options).await?;
        Ok(Box::new(SyncedUpload { inner, path, place: self.place.clone() }))
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

/// An upload in parts that is synced when it is complete.
#[derive(Debug)]
struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
    place: Place,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.inner.complete().await?;
        let (place, path) = (self.place.clone(), self.path.clone());
        blocking(move || place.sync(&path)).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
