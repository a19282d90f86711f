//! Which lines a program logs and how they look: `WEIR_LOG` at first, the admin page later.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, reload};

type SetFilter = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Which log lines the program writes: its own, since a library has no say in that, handed to the proxy so that the
/// admin page can ask and change it.
#[derive(Clone)]
pub struct LogFilter {
    pub(crate) get: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) set: Arc<SetFilter>,
}

impl LogFilter {
    /// `get` tells the filter as text, such as `info,weir_proxy_tap=debug`; `set` puts another in its place, or says
    /// what is wrong with it.
    pub fn new(
        get: impl Fn() -> String + Send + Sync + 'static,
        set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { get: Arc::new(get), set: Arc::new(set) }
    }

    /// The filter behind `handle`, which the program has put before what writes its lines.
    pub fn reloading<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Self {
        let asked = handle.clone();
        let set = move |text: &str| handle.reload(parse(text)?).map_err(|error| error.to_string());
        Self::new(move || asked.with_current(EnvFilter::to_string).unwrap_or_default(), set)
    }
}

/// The filter that `text` says: levels, and `target=level`, with commas between them. What names no level is refused:
/// a level that is misspelt would be taken for a target, and silence all others.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, String> {
    let all: Vec<&str> = text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    for one in all.iter().copied() {
        let (target, level) =
            one.rsplit_once('=').map_or((None, one), |(target, level)| (Some(target), level));
        // No level at all would be taken for `error`.
        let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
        if !is_level || target.is_some_and(str::is_empty) {
            return Err(format!(
                "expected a level (off, error, warn, info, debug, trace) or target=level, got `{one}`"
            ));
        }
    }
    EnvFilter::builder().parse(all.join(",")).map_err(|error| error.to_string())
}

/// The filter that `told`, which is `WEIR_LOG`, says; `quiet` where it says none.
pub fn start_filter(told: Option<String>, quiet: &str) -> EnvFilter {
    match told.map(|text| parse(&text)) {
        Some(Ok(filter)) => filter,
        Some(Err(problem)) => {
            eprintln!("WEIR_LOG: {problem}; it is `{quiet}` now");
            EnvFilter::new(quiet)
        }
        None => EnvFilter::new(quiet),
    }
}

/// Whether log lines have colours: not in a file, nor where `no_color`, which is `NO_COLOR`, says anything.
pub fn has_colours(no_color: Option<String>) -> bool {
    std::io::stderr().is_terminal() && no_color.is_none_or(|text| text.is_empty())
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&(self.get)()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_level_is_refused_and_told() {
        for text in ["info", "warn,weir_proxy_tap=debug", "off", " info , h2=trace", ""] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for (text, told) in [("inof", "`inof`"), ("info,weir_prox=debug,===", "`===`"), ("=info", "`=info`")]
        {
            assert!(parse(text).unwrap_err().contains(told), "{text}");
        }
    }
}
