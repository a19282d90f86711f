//! `weir import`: telemetry from files into a running collector, or straight into a data directory.
//!
//! In: files as [`weir_collector::import`] reads them. Out: rows, in requests of bounded size, one after the
//! other; and an account of what was taken, what was rejected and why, and what could not be read and where.
//!
//! A thread reads ahead of the request that is being stored. A request is sent again when the collector said
//! that it took nothing, and also when its answer was lost: spans and samples that are then stored twice are
//! dropped by their identity, log records, which have none, are not.

use std::io::{self, Write};
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use weir_model::{Clock, TenantId};

mod batch;
mod progress;
mod reader;
mod sink;
mod summary;

use batch::Batch;
use progress::Progress;
use reader::{Event, Reader};
use sink::{Ended, Sink, Stored};
use summary::Summary;

/// What to import, and where to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImportArgs {
    /// Files to read, `-` is stdin: OTLP as the OpenTelemetry Collector's file exporter writes it (JSON or protobuf),
    /// or Jaeger JSON; plain, gzip or zstd
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Address of a running collector's OTLP/gRPC receiver
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317", conflicts_with = "data_dir")]
    to: String,
    /// Store straight into this data directory, made if absent, which no server may use meanwhile
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whose telemetry it is, with --data-dir [default: default]
    #[arg(long, value_name = "NAME", requires = "data_dir", value_parser = tenant)]
    tenant: Option<TenantId>,
}

/// Why not everything was imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// `--to` is no address.
    #[error("`{to}` is not an address: expected `host:port`, as in `127.0.0.1:4317`")]
    Address {
        /// What was given.
        to: String,
    },
    /// A file cannot be read at all; nothing was imported.
    #[error("cannot read `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody listens.
    #[error(
        "no answer from `{to}`; is `weir serve` running there? (--to, or --data-dir without a server): {why}"
    )]
    NoAnswer {
        /// The receiver.
        to: String,
        /// What the connection said.
        why: String,
    },
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] weir_storage::OpenError),
    /// The last rows are in the write-ahead log.
    #[error("the last rows stay in the write-ahead log")]
    Flush(#[from] weir_storage::FlushError),
    /// Nothing is taken any more.
    #[error("stopped at {at}: {why}; what is counted above is stored, the rest is not")]
    Hopeless {
        /// What was to be stored next.
        at: String,
        /// Why it is not.
        why: String,
    },
    /// A signal came.
    #[error("interrupted; what is counted above is stored, the rest is not")]
    Interrupted,
    /// All but these places was imported.
    #[error("{faults} {} could not be read", if *.faults == 1 { "place" } else { "places" })]
    Unreadable {
        /// How many.
        faults: u64,
    },
    /// The account could not be written.
    #[error("cannot write the account")]
    Output(#[from] io::Error),
}

fn tenant(name: &str) -> Result<TenantId, String> {
    TenantId::new(name).ok_or_else(|| "expected at most 64 letters, digits, `-` and `_`".to_owned())
}

/// Imports what `args` say until it is done or `stop` is cancelled. The account goes to `out`, what could not be
/// read to `err` at once; an error where that is not all.
pub(crate) async fn run(
    args: ImportArgs,
    clock: Clock,
    stop: CancellationToken,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(), ImportError> {
    let files = reader::check(&args.files)?;
    let sink = match args.data_dir {
        Some(dir) => Sink::directory(dir, args.tenant.unwrap_or_default(), clock).await?,
        None => Sink::collector(args.to).await?,
    };
    let progress = Progress::new(&files);
    let mut import = Import {
        reader: Reader::start(files, progress.clone()),
        summary: Summary::new(args.files.len()),
        progress,
        stop,
        sink,
        err,
    };
    let all = import.all().await;
    let Import { summary, progress, sink, .. } = import;
    progress.end();
    let place = sink.name();
    // Before the account: what it says is stored is.
    let closed = sink.close().await;
    summary.print(out, progress.bytes(), &place)?;
    all?;
    closed?;
    match summary.faults {
        0 => Ok(()),
        faults => Err(ImportError::Unreadable { faults }),
    }
}

struct Import<'a> {
    reader: Reader,
    sink: Sink,
    summary: Summary,
    progress: Progress,
    stop: CancellationToken,
    err: &'a mut (dyn Write + Send),
}

impl Import<'_> {
    async fn all(&mut self) -> Result<(), ImportError> {
        loop {
            let event = tokio::select! {
                event = self.reader.next() => event,
                () = self.stop.cancelled() => return Err(ImportError::Interrupted),
            };
            match event {
                None => return Ok(()),
                Some(Event::Batch(batch)) => self.store(batch).await?,
                Some(Event::Fault(place, why)) => self.fault(&place, &why)?,
            }
        }
    }

    /// Stores a batch; piece by piece where it is refused as a whole, so that one bad piece costs no other.
    async fn store(&mut self, batch: Batch) -> Result<(), ImportError> {
        let whole = self.sink.store(batch.signal, batch.body.clone(), &self.stop).await;
        match whole.map_err(|ended| self.ended(ended, &batch, 0))? {
            Stored::Taken(rejected) => self.summary.taken(batch.signal, batch.records(), rejected),
            Stored::Refused(why) if batch.pieces.len() == 1 => {
                self.fault(&batch.place(0, &self.reader), &why)?
            }
            Stored::Refused(_) => {
                for (index, piece) in batch.pieces.iter().enumerate() {
                    let body = batch.body.slice(piece.bytes.clone());
                    let one = self.sink.store(batch.signal, body, &self.stop).await;
                    match one.map_err(|ended| self.ended(ended, &batch, index))? {
                        Stored::Taken(rejected) => self.summary.taken(batch.signal, piece.records, rejected),
                        Stored::Refused(why) => self.fault(&batch.place(index, &self.reader), &why)?,
                    }
                }
            }
        }
        self.progress.stored(self.summary.accepted());
        Ok(())
    }

    fn fault(&mut self, place: &str, why: &str) -> io::Result<()> {
        if let Some(line) = self.summary.fault(place, why) {
            self.progress.beside(|| writeln!(self.err, "{line}"))?;
        }
        Ok(())
    }

    fn ended(&self, ended: Ended, batch: &Batch, piece: usize) -> ImportError {
        match ended {
            Ended::Asked => ImportError::Interrupted,
            Ended::Hopeless(why) => ImportError::Hopeless { at: batch.place(piece, &self.reader), why },
        }
    }
}
