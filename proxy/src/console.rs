//! What goes to stderr while a cluster is served: the log, and below it, where stderr is a terminal, bars that show what
//! is under way. Elsewhere that is told by lines of the log.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_backend::Progress;
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Service;

/// Stderr. Clones share their bars.
#[derive(Clone)]
pub struct Console {
    bars: MultiProgress,
    /// What is under way. Locked for whatever changes the screen, and never while something is logged.
    shown: Arc<Mutex<HashMap<Under, Shown>>>,
}

/// What something is shown under.
#[derive(PartialEq, Eq, Hash)]
enum Under {
    /// An image that is being made.
    Image(String),
    /// A service that starts.
    Service(String),
}

/// Something that is under way.
struct Shown {
    bar: ProgressBar,
    /// What was said of it last.
    status: String,
}

impl Console {
    /// Bars on stderr if it is a terminal.
    pub fn on_stderr() -> Self {
        let target = ProgressDrawTarget::stderr();
        Self { bars: MultiProgress::with_draw_target(target), shown: Arc::default() }
    }

    /// Where everything is.
    pub fn serving(&self, proxy: &[String], admin: SocketAddr, backend: &str) {
        tracing::info!(
            "serving requests on {}, admin API on http://{admin}, backend {backend}",
            proxy.join(" and ")
        );
    }

    /// How far the start of a service is.
    pub fn starting(&self, service: &str, ready: usize, wanted: u32) {
        self.show(
            Under::Service(service.to_owned()),
            "starting",
            ready as u64,
            u64::from(wanted),
            "{prefix:>16.bold} {bar:24} {pos}/{len} ready {msg}",
        );
    }

    /// A service has all that it wants.
    pub fn ready(&self, name: &str, service: &Service, instances: usize) {
        self.forget(name);
        let hosts = service.hosts.join(", ");
        let default = if service.default { ", default" } else { "" };
        tracing::info!("{name} is ready: {instances} of {instances} instances (hosts {hosts}{default})");
    }

    /// Nothing more is shown of a service that starts.
    pub fn forget(&self, name: &str) {
        if let Some(shown) = self.shown.lock().remove(&Under::Service(name.to_owned())) {
            shown.bar.finish_and_clear();
        }
    }

    /// No image is being made any more.
    pub fn finish(&self) {
        self.clear_of(|under| matches!(under, Under::Image(_)));
    }

    /// Nothing is under way any more.
    pub fn clear(&self) {
        self.clear_of(|_| true);
    }

    fn clear_of(&self, which: impl Fn(&Under) -> bool) {
        self.shown.lock().retain(|under, shown| {
            let cleared = which(under);
            if cleared {
                shown.bar.finish_and_clear();
            }
            !cleared
        });
    }

    fn show(&self, under: Under, status: &str, done: u64, total: u64, template: &str) {
        let (Under::Image(what) | Under::Service(what)) = &under;
        let what = what.clone();
        let news = {
            let mut all = self.shown.lock();
            let shown = all.entry(under).or_insert_with(|| Shown::new(&self.bars, &what, total, template));
            shown.bar.set_length(total);
            shown.bar.set_position(done);
            shown.bar.set_message(status.to_owned());
            let news = shown.status != status;
            status.clone_into(&mut shown.status);
            news
        };
        if news && self.bars.is_hidden() {
            tracing::info!("{what}: {status}");
        }
    }
}

impl Shown {
    fn new(bars: &MultiProgress, what: &str, total: u64, template: &str) -> Self {
        let bar = bars.add(ProgressBar::new(total));
        // The templates are this file's own; a wrong one shows the default bar.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what.to_owned());
        Self { bar, status: String::new() }
    }
}

/// The log is written above the bars.
impl Write for &Console {
    /// Takes all of it, and never fails: a terminal or a reader that has gone is nobody to tell, and what serves goes on.
    /// (`MultiProgress::suspend` panics then, and so does a subscriber whose writer fails.)
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let shown = self.shown.lock();
        if shown.is_empty() || self.bars.is_hidden() {
            let _ = io::stderr().write_all(text);
            return Ok(text.len());
        }
        let _ = self.bars.clear();
        let _ = io::stderr().write_all(text);
        // One of them draws all.
        if let Some(shown) = shown.values().next() {
            shown.bar.tick();
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Progress for Console {
    fn step(&self, what: &str, status: &str, done: u64, total: u64) {
        self.show(
            Under::Image(what.to_owned()),
            status,
            done,
            total,
            "{prefix:>16.bold} {bar:24} {binary_bytes}/{binary_total_bytes} {msg}",
        );
    }
}
