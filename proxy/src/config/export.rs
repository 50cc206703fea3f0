//! `jobs.export`: how often all jobs are written elsewhere, and where to.

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::Diagnostic;
use super::value::Value;

/// Exports more often than this would do nothing else.
const OFTEN: Duration = Duration::from_secs(1);

/// `jobs.export`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledExport {
    /// The time from one to the next.
    pub every: Duration,
    /// Where to.
    pub to: ExportTo,
}

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    /// A file of its own in this folder.
    Folder {
        /// Which.
        folder: PathBuf,
        /// How many files stay there: the newest; 0 is all.
        keep: usize,
    },
    /// The stdin of a command.
    Command(Vec<String>),
}

/// Files that are kept when the file does not say.
const KEEP: usize = 24;

pub(super) fn read(value: &Value<'_>) -> Option<ScheduledExport> {
    let mut table = value.table()?;
    let (every, to, keep) = (table.take("every"), table.take("to"), table.take("keep"));
    table.finish();
    let missing = |key: &str| {
        let help =
            "write `export = { every = \"1h\", to = \"backups\" }`, or `to = [\"command\", \"argument\"]`";
        let message = format!("`{}` needs `{key}`", value.path());
        value.reader.report(Diagnostic::new(value.span.clone(), message).help(help));
    };
    for (key, is_missing) in [("every", every.is_none()), ("to", to.is_none())] {
        if is_missing {
            missing(key);
        }
    }
    let kept = keep.as_ref().map(|keep| keep.integer(0..=1_000_000));
    let every = every.and_then(|every| match every.timeout()? {
        short if short < OFTEN => every.reject(format!("`{}` must be 1s or more", every.path())),
        every => Some(every),
    });
    let to = to.and_then(|to| if to.is_string() { folder(&to, kept) } else { command(&to, keep.as_ref()) });
    Some(ScheduledExport { every: every?, to: to? })
}

fn folder(value: &Value<'_>, keep: Option<Option<usize>>) -> Option<ExportTo> {
    let folder = value.reader.path(&value.string()?);
    Some(ExportTo::Folder { folder, keep: keep.map_or(Some(KEEP), |keep| keep)? })
}

fn command(value: &Value<'_>, keep: Option<&Value<'_>>) -> Option<ExportTo> {
    let words = value.list("a folder, or a command such as [\"program\", \"argument\"]", Value::string)?;
    if let Some(keep) = keep {
        return keep
            .reject(format!("`{}` is of exports to a folder: a command sees to that itself", keep.path()));
    }
    if words.is_empty() {
        return value.reject(format!("`{}` is empty", value.path()));
    }
    Some(ExportTo::Command(words))
}
