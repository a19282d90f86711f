//! `weir storage`: looking after a data directory that no server uses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use weir_storage::{Options, Storage};

use super::client::plain_table;
use crate::process;

/// The verbs below `weir storage`.
#[derive(Debug, Subcommand)]
pub(super) enum StorageVerb {
    /// List files, rows and bytes by tenant, table and day
    Ls(DirArgs),
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
