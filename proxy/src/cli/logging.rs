//! The log: on stderr (above the bars, if there are any), as text or as JSON lines, Longshore's own at `info` and other
//! crates' at `warn` unless asked otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::console::Console;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Directs what the process traces to `console`. `level` comes before `RUST_LOG`; the error names what is wrong with it.
pub(super) fn start(format: Format, level: Option<&str>, console: Console) -> Result<(), String> {
    let filter = match level {
        Some(level) => {
            EnvFilter::try_new(directives(level)?).map_err(|error| wrong(level, &error.to_string()))?
        }
        None => from_environment(std::env::var("RUST_LOG").ok().as_deref())?,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(console);
    let started = match format {
        Format::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            log.with_target(false).with_ansi(std::io::stderr().is_terminal() && !plain).try_init()
        }
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("cannot start the log: {error}"))
}

fn from_environment(value: Option<&str>) -> Result<EnvFilter, String> {
    let text = match value {
        Some(text) if !text.trim().is_empty() => directives(text)?,
        Some(_) | None => directives("info")?,
    };
    EnvFilter::try_new(&text).map_err(|error| wrong(&text, &error.to_string()))
}

/// A bare level is Longshore's own; everything else stands as it is.
fn directives(text: &str) -> Result<String, String> {
    let level = text.trim();
    if !level.is_empty() && level.parse::<tracing::level_filters::LevelFilter>().is_ok() {
        let own = ["longshore", "longshore_pool", "longshore_backend", "longshore_jobs"];
        // What a client does wrong over HTTP/2 is counted; h2 would write a line of its own for each.
        return Ok(own.iter().fold("warn,h2=error".to_owned(), |all, one| format!("{all},{one}={level}")));
    }
    let directive = |part: &str| part.parse::<Directive>().is_ok() && part.contains('=');
    if !level.is_empty() && level.split(',').any(directive) {
        return Ok(level.to_owned());
    }
    Err(wrong(
        level,
        "it is error, warn, info, debug, trace, off, or directives such as longshore=debug,hyper=info",
    ))
}

fn wrong(level: &str, why: &str) -> String {
    format!("{level:?} is no log level: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_leaves_other_crates_alone() {
        assert_eq!(
            directives("debug").as_deref(),
            Ok(
                "warn,h2=error,longshore=debug,longshore_pool=debug,longshore_backend=debug,longshore_jobs=debug"
            )
        );
        assert_eq!(directives("longshore=trace,hyper=info").as_deref(), Ok("longshore=trace,hyper=info"));
        assert!(directives("loud").is_err_and(|error| error.contains("\"loud\" is no log level")));
        assert!(directives("").is_err());
        assert!(from_environment(Some("")).is_ok(), "an empty RUST_LOG is none");
    }
}
