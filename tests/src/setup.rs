//! What a test wants to run: a cluster.toml, written into a folder of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::{Cluster, docker};

/// What runs the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Child processes of the proxy.
    Process,
    /// Containers; without an engine the test fails.
    Docker,
}

impl Backend {
    /// As `--backend` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
        }
    }
}

/// The repository that this package is in.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the repository")
}

/// Fails without the model server that the process backend runs.
pub(crate) fn demand_model_server() {
    let program = repository().join("images/model-server/bin/model-server");
    assert!(program.is_file(), "{} is missing: run tools/build-model-server, or ./test", program.display());
}

/// A `[services.NAME]` that runs the model server with these arguments; `keys` are lines of its table.
pub fn model(name: &str, arguments: &str, keys: &str) -> String {
    let command: Vec<String> = ["model-server"]
        .into_iter()
        .chain(arguments.split_whitespace())
        .map(|word| format!("{word:?}"))
        .collect();
    let health = if keys.contains("health.") || keys.contains("health =") {
        ""
    } else {
        "health.path = \"/healthz\"\n"
    };
    format!(
        "[services.{name}]\nimage = \"{}\"\nbuild = {:?}\ncommand = [{}]\n{health}{keys}\n",
        docker::MODEL_SERVER,
        repository().join("images/model-server"),
        command.join(", "),
    )
}

/// A cluster that is not running yet.
#[derive(Debug)]
pub struct Setup {
    pub(crate) backend: Backend,
    pub(crate) name: String,
    pub(crate) folder: TempDir,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    proxy: Vec<String>,
    admin: Vec<String>,
    services: Vec<String>,
}

impl Setup {
    /// Without services, under a name that no other test has.
    pub fn new(backend: Backend) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self {
            backend,
            name: format!("e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)),
            folder: tempfile::Builder::new().prefix("longshore-e2e-").tempdir().expect("a folder"),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            proxy: Vec::new(),
            admin: Vec::new(),
            services: Vec::new(),
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Under this name and the test's own.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = format!("e2e-{}-{name}", std::process::id());
        self
    }

    /// A line of `[proxy]`.
    #[must_use]
    pub fn proxy(mut self, line: &str) -> Self {
        self.proxy.push(line.to_owned());
        self
    }

    /// A line of `[admin]`.
    #[must_use]
    pub fn admin(mut self, line: &str) -> Self {
        self.admin.push(line.to_owned());
        self
    }

    /// A service, or anything else for the end of the file.
    #[must_use]
    pub fn service(mut self, text: &str) -> Self {
        self.services.push(text.to_owned());
        self
    }

    /// [`model`] as a service.
    #[must_use]
    pub fn model(self, name: &str, arguments: &str, keys: &str) -> Self {
        let text = model(name, arguments, keys);
        self.service(&text)
    }

    /// The services from now on are these.
    pub fn replace_services(&mut self, text: &str) {
        self.services = vec![text.to_owned()];
    }

    /// An argument of `up`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Without arguments from now on.
    pub fn drop_arguments(&mut self) {
        self.arguments.clear();
    }

    /// A variable of the environment of `up`.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A file beside cluster.toml.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the folder can be written to");
        path
    }

    /// Writes cluster.toml.
    pub fn write(&self) -> PathBuf {
        let with_default = |lines: &[String], key: &str, default: &str| {
            let given = lines.iter().any(|line| line.trim_start().starts_with(key));
            if given { lines.join("\n") } else { format!("{default}\n{}", lines.join("\n")) }
        };
        let text = format!(
            "name = \"{}\"\n[proxy]\n{}\n[admin]\n{}\n{}",
            self.name,
            with_default(&self.proxy, "listen", "listen = [\"127.0.0.1:0\"]"),
            with_default(&self.admin, "listen", "listen = \"127.0.0.1:0\""),
            self.services.join("\n"),
        );
        self.file("cluster.toml", &text)
    }

    /// Runs `longshore up` and waits until it serves.
    pub async fn serve(self) -> Cluster {
        Cluster::serve(self).await
    }

    /// The same, and waits until every service has the instances that it wants.
    pub async fn start(self) -> Cluster {
        let cluster = self.serve().await;
        cluster.settled().await;
        cluster
    }
}
