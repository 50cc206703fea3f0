//! What a file asks for that cannot be put in force, though it is right: shown where it stands in the file.

use std::net::SocketAddr;
use std::path::Path;

use super::difference::Fixed;
use crate::admin::Refusal;
use crate::config::{self, Config};
use crate::gateway::listen::BindError;

/// What cannot change while the cluster runs.
pub(super) fn fixed(file: &Path, fixed: &Fixed) -> Refusal {
    let wrong: Vec<_> = fixed.0.iter().map(|(key, why)| (Some((*key).to_owned()), why.clone())).collect();
    Refusal::broken(&config::shown_in(file, &wrong))
}

/// An address that cannot be listened on.
pub(super) fn address(file: &Path, config: &Config, error: &BindError) -> Refusal {
    Refusal::broken(&config::shown_in(file, &[(place(config, error.address()), error.to_string())]))
}

/// The dotted name of what names it.
fn place(config: &Config, address: SocketAddr) -> Option<String> {
    let index = |list: &[SocketAddr]| list.iter().position(|one| *one == address);
    let plain = index(&config.proxy.listen).map(|index| format!("proxy.listen.{index}"));
    let secure = || {
        let index = config.proxy.tls.as_ref().and_then(|tls| index(&tls.listen))?;
        Some(format!("proxy.tls.listen.{index}"))
    };
    let admin = || (config.admin.listen == address).then(|| "admin.listen".to_owned());
    plain.or_else(secure).or_else(admin)
}
