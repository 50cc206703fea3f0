//! What `up` shows a person: bars where stderr is a terminal, lines in the log elsewhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_backend::Progress;
use parking_lot::Mutex;

use crate::config::Service;

/// Shows progress. Clones share their bars.
#[derive(Clone)]
pub struct Console {
    bars: MultiProgress,
    /// What is under way, by its name; with the last line said of it where there are no bars.
    shown: Arc<Mutex<HashMap<String, (ProgressBar, String)>>>,
}

impl Console {
    /// Bars on stderr if it is a terminal.
    pub fn new() -> Self {
        let target = ProgressDrawTarget::stderr();
        Self { bars: MultiProgress::with_draw_target(target), shown: Arc::default() }
    }

    /// One line, above any bars.
    pub fn line(&self, text: &str) {
        self.bars.suspend(|| tracing::info!("{text}"));
    }

    /// Where everything is.
    pub fn serving(&self, proxy: &[SocketAddr], admin: SocketAddr, backend: &str) {
        let proxy: Vec<String> = proxy.iter().map(|address| format!("http://{address}")).collect();
        self.line(&format!(
            "serving requests on {}, admin API on http://{admin}, backend {backend}",
            proxy.join(" and ")
        ));
    }

    /// How far the start of a service is.
    pub fn starting(&self, service: &str, ready: usize, wanted: u32) {
        self.show(
            service,
            "starting",
            ready as u64,
            u64::from(wanted),
            "{prefix:>16.bold} {bar:24} {pos}/{len} ready {msg}",
        );
    }

    /// A service has all that it wants.
    pub fn ready(&self, name: &str, service: &Service, instances: usize) {
        if let Some((bar, _)) = self.shown.lock().remove(name) {
            bar.finish_and_clear();
        }
        let hosts = service.hosts.join(", ");
        let default = if service.default { ", default" } else { "" };
        self.line(&format!("{name} is ready: {instances} of {instances} instances (hosts {hosts}{default})"));
    }

    /// Nothing is under way any more.
    pub fn finish(&self) {
        for (_, (bar, _)) in self.shown.lock().drain() {
            bar.finish_and_clear();
        }
    }

    fn show(&self, what: &str, status: &str, done: u64, total: u64, template: &str) {
        let mut shown = self.shown.lock();
        let (bar, last) = shown.entry(what.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(total));
            // The templates are this file's own; a wrong one shows the default bar.
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(what.to_owned());
            (bar, String::new())
        });
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(status.to_owned());
        if self.bars.is_hidden() && *last != status {
            status.clone_into(last);
            tracing::info!("{what}: {status}");
        }
    }
}

impl Progress for Console {
    fn step(&self, what: &str, status: &str, done: u64, total: u64) {
        self.show(
            what,
            status,
            done,
            total,
            "{prefix:>16.bold} {bar:24} {binary_bytes}/{binary_total_bytes} {msg}",
        );
    }
}
