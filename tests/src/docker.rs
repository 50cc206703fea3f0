//! The Docker command line: faults and looks that are none of Longshore's business. A test fails where no engine answers.

use std::process::{Command, Output};

/// The image of the model server. `./test` builds it.
pub const MODEL_SERVER: &str = "longshore/model-server";

/// An engine: the default one, or another.
#[derive(Clone, Debug, Default)]
pub struct Docker {
    host: Option<String>,
}

impl Docker {
    /// The engine at `host`, as `DOCKER_HOST` has it.
    pub fn at(host: &str) -> Self {
        Self { host: Some(host.to_owned()) }
    }

    /// Where it is, unless it is the default one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Runs a command to its end; takes as long as the engine does.
    pub fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command.args(arguments).output().expect("the docker command is installed; ./test does that")
    }

    /// What a command prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "docker {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Fails without an engine, and without the model server's image.
    pub fn demand(&self) {
        let answered = self.output(&["version", "--format", "{{.Server.Version}}"]);
        assert!(answered.status.success(), "these tests need a Docker engine: run ./test, or start dockerd");
        let found = self.output(&["image", "inspect", MODEL_SERVER]);
        assert!(
            found.status.success(),
            "the image {MODEL_SERVER} is missing: run tools/build-images model-server"
        );
    }

    /// Ids of the containers of a cluster, running or not, in some order.
    pub fn containers(&self, cluster: &str) -> Vec<String> {
        let filter = format!("label=longshore.cluster={cluster}");
        let list = self.run(&["ps", "-aq", "--no-trunc", "--filter", &filter]);
        list.lines().map(str::to_owned).collect()
    }

    /// Removes the containers of a cluster; a failure would only hide the test's own.
    pub(crate) fn clear(&self, cluster: &str) {
        let filter = format!("label=longshore.cluster={cluster}");
        let list = self.output(&["ps", "-aq", "--filter", &filter]);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let ids: Vec<&str> = list.split_whitespace().collect();
        if !ids.is_empty() {
            self.output(&[&["rm", "-f", "-v"], &ids[..]].concat());
        }
    }
}
