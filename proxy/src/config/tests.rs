//! Whole files, right and wrong.

mod defaults;
mod mistakes;

use super::{Config, Diagnostics};

/// Parses `text` as `cluster.toml` in an environment where only `HOME` and `IMAGE` are set.
fn parse(text: &str) -> Result<Config, Diagnostics> {
    let env = |name: &str| match name {
        "HOME" => Some("/home/ada".to_owned()),
        "IMAGE" => Some("example/model:2".to_owned()),
        _ => None,
    };
    Config::parse(text, "cluster.toml", &env)
}

/// The one service of a file that is right.
fn service(text: &str) -> super::Service {
    let mut config = parse(text).unwrap();
    assert_eq!(config.services.len(), 1);
    config.services.remove(0)
}
