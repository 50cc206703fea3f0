//! What a service is to be, in the words of cluster.toml.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A service: what runs, and how it is served. Whatever is not said has the default of cluster.toml.
#[derive(Clone, Debug)]
#[must_use]
pub struct Service {
    name: String,
    lines: String,
}

impl Service {
    /// A service of this name, which is also the host that it answers to: `http://NAME/…`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), lines: String::new() }
    }

    /// The image that its instances run.
    pub fn image(self, image: &str) -> Self {
        self.set("image", &quoted(image))
    }

    /// The folder to build the image from where it is missing; where child processes look for their program.
    pub fn build(self, folder: impl AsRef<Path>) -> Self {
        self.set("build", &quoted(&folder.as_ref().display().to_string()))
    }

    /// Overrides the image's command; what child processes run.
    pub fn command<S: AsRef<str>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.set("command", &list(words.into_iter().map(|word| quoted(word.as_ref()))))
    }

    /// Servers that already run, instead of an image.
    pub fn addresses(self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.set("addresses", &list(addresses.into_iter().map(|address| quoted(&address.to_string()))))
    }

    /// The server's port inside a container; it is also told as `$PORT`.
    pub fn port(self, port: u16) -> Self {
        self.set("port", &port.to_string())
    }

    /// How many instances there are at first. (Another policy: [`Service::keys`] with `size = …`, or
    /// [`Cluster::set_size`](crate::Cluster::set_size).)
    pub fn size(self, size: u32) -> Self {
        self.set("size", &size.to_string())
    }

    /// Requests that one instance works on at once; 0 is no limit.
    pub fn concurrency(self, requests: u32) -> Self {
        self.set("concurrency", &requests.to_string())
    }

    /// From acceptance to the last byte, queueing included.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set("timeout", &quoted(&humantime::format_duration(timeout).to_string()))
    }

    /// The path that answers below 500 once an instance is ready.
    pub fn health_path(self, path: &str) -> Self {
        self.set("health.path", &quoted(path))
    }

    /// Any other keys, as lines of the service's table in cluster.toml: `queue.order = "fair"`.
    pub fn keys(mut self, lines: &str) -> Self {
        self.lines += lines;
        self.lines.push('\n');
        self
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "{key} = {value}");
        self
    }

    /// Its table.
    pub(super) fn text(&self) -> String {
        format!("[services.{}]\n{}\n", quoted(&self.name), self.lines)
    }
}

/// A string as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_table_of_the_file() {
        let service = Service::new("calc")
            .image("a/b")
            .command(["run", "\"it\"\n"])
            .size(3)
            .concurrency(2)
            .timeout(Duration::from_millis(1_500))
            .health_path("/healthz")
            .keys("queue.order = \"fair\"");
        let config = crate::config::Config::parse(&service.text(), "x", &|_| None).expect("it is right");
        let read = &config.services[0];
        assert_eq!((&*read.name, read.size.number(), read.concurrency), ("calc", Some(3), 2));
        assert_eq!(read.timeout, Duration::from_millis(1_500));
        assert_eq!(read.queue.order, longshore_pool::QueueOrder::Fair);
    }
}
