//! A configuration file with the files it names.

use std::path::{Path, PathBuf};

use weir_model::prometheus::Config;
use weir_model::yaml::{Mistakes, Notice};

use super::files::{self, FileError};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be had.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file has mistakes.
    #[error("`{}` has {mistakes}", path.display())]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Mistakes,
    },
    /// What the configuration names is not as it should be.
    #[error("{0}")]
    Refused(String),
}

/// Says what is wrong with what a configuration names, if anything.
pub type Accept = dyn Fn(&Config) -> Result<(), String> + Send + Sync;

/// Where values come from that a configuration does not say itself.
pub type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Reads Prometheus' configuration file at `path`, and what in it has no effect, by file. `variable` gives the
/// values of environment variables in external labels.
pub fn load(path: &Path, variable: &Variable) -> Result<(Config, Vec<(PathBuf, Notice)>), LoadError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |mistakes| LoadError::Mistakes { path, mistakes }
    };
    let (mut config, told) = Config::parse(&files::read(path)?).map_err(wrong(path))?;
    let mut warnings: Vec<_> = told.into_iter().map(|notice| (path.to_owned(), notice)).collect();
    config.set_directory(path.parent().unwrap_or(Path::new("")));
    config.expand_external_labels(variable);
    for pattern in config.scrape_config_files.clone() {
        for file in files::matching(&pattern) {
            let dir = file.parent().unwrap_or(Path::new(""));
            let told = config.add_scrape_configs(&files::read(&file)?, dir).map_err(wrong(&file))?;
            warnings.extend(told.into_iter().map(|notice| (file.clone(), notice)));
        }
    }
    Ok((config, warnings))
}
