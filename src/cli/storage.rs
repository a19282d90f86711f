//! `weir storage`: looking after a data directory that no server uses.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use weir_storage::{Damaged, Options, Storage, TableStatus};

use super::client::plain_table;
use crate::process;

/// The verbs below `weir storage`.
#[derive(Debug, Subcommand)]
pub(super) enum StorageVerb {
    /// List files, rows and bytes by tenant, table and day
    Ls(DirArgs),
    /// Show what the tables, the write-ahead log and the quarantine hold
    Stat(DirArgs),
    /// Compare every file with its length and checksum; damaged ones are set aside
    Check(DirArgs),
    /// Merge small files; a server does so by itself
    Compact(DirArgs),
    /// Remove files that no table has named for an hour
    Vacuum(DirArgs),
}

/// Which data directory.
#[derive(Debug, Args)]
pub(super) struct DirArgs {
    /// Where tables and the write-ahead log live
    #[arg(long, env = "WEIR_DATA_DIR", value_name = "DIR", default_value = "weir-data")]
    data_dir: PathBuf,
}

pub(super) fn run(verb: StorageVerb) -> anyhow::Result<()> {
    let (StorageVerb::Ls(DirArgs { data_dir })
    | StorageVerb::Stat(DirArgs { data_dir })
    | StorageVerb::Check(DirArgs { data_dir })
    | StorageVerb::Compact(DirArgs { data_dir })
    | StorageVerb::Vacuum(DirArgs { data_dir })) = &verb;
    anyhow::ensure!(
        data_dir.join("FORMAT").exists(),
        "`{}` is no data directory; name one with --data-dir",
        data_dir.display()
    );
    let options = Options::new(data_dir.clone(), process::wall_clock());
    super::on_server_runtime(async move {
        let storage = Storage::open(options).await?;
        match verb {
            // Not closed: looking changes nothing, rows in the write-ahead log stay there.
            StorageVerb::Ls(_) => return list(&storage),
            StorageVerb::Stat(_) => return stat(&storage),
            StorageVerb::Check(_) => {
                let sound = storage.check().await?;
                super::say(format_args!("{sound} files are sound"))?;
                list_damaged(&storage)?;
                let damaged = storage.damaged().len();
                storage.close().await?;
                anyhow::ensure!(damaged == 0, "{damaged} files are damaged and were set aside");
                return Ok(());
            }
            StorageVerb::Compact(_) => {
                let done = storage.compact().await?;
                super::say(format_args!(
                    "merged {} files with {} rows, of which {} were there twice",
                    done.files, done.rows, done.duplicates
                ))?;
            }
            StorageVerb::Vacuum(_) => {
                super::say(format_args!("removed {} files", storage.vacuum().await?))?;
            }
        }
        Ok(storage.close().await?)
    })
}

fn stat(storage: &Storage) -> anyhow::Result<()> {
    let status = storage.status();
    let mut table = plain_table(["TABLE", "FILES", "ROWS", "BYTES", "BYTES/ROW", "ROWS IN WAL"]);
    for TableStatus { table: of, files, rows, bytes, hot_rows } in &status.tables {
        let each = if *rows > 0 { format!("{:.1}", *bytes as f64 / *rows as f64) } else { "-".to_owned() };
        let figures = [files.to_string(), rows.to_string(), bytes.to_string(), each, hot_rows.to_string()];
        table.add_row([of.name().to_owned()].into_iter().chain(figures));
    }
    super::say(table)?;
    super::say(format_args!("{} series, {} bytes of write-ahead log", status.series, status.wal_bytes))?;
    Ok(list_damaged(storage)?)
}

fn list_damaged(storage: &Storage) -> io::Result<()> {
    let damaged = storage.damaged();
    if damaged.is_empty() {
        return super::say("no file is set aside");
    }
    let mut table = plain_table(["TENANT", "TABLE", "DAY", "ROWS", "DAMAGED FILE", "WHY"]);
    for (tenant, of, Damaged { file, reason }) in damaged {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (day, rows) = (file.day(), file.rows.to_string());
        table.add_row([tenant.as_str().to_owned(), of.name().to_owned(), day, rows, name, reason]);
    }
    super::say(table)
}

fn list(storage: &Storage) -> anyhow::Result<()> {
    // (files, rows, bytes) by tenant, table and day.
    let mut sums: BTreeMap<(String, &str, String), (u64, u64, u64)> = BTreeMap::new();
    for (tenant, table, file) in storage.files() {
        let day = file.day();
        let sum = sums.entry((tenant.as_str().to_owned(), table.name(), day)).or_default();
        *sum = (sum.0 + 1, sum.1 + file.rows, sum.2 + file.size);
    }
    let mut table = plain_table(["TENANT", "TABLE", "DAY", "FILES", "ROWS", "BYTES"]);
    for ((tenant, name, day), (files, rows, bytes)) in sums {
        table.add_row([tenant, name.to_owned(), day, files.to_string(), rows.to_string(), bytes.to_string()]);
    }
    super::say(table)?;
    let status = storage.status();
    super::say(format_args!("{} rows wait in the write-ahead log", status.hot_rows))?;
    Ok(())
}
