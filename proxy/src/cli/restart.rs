//! `longshore restart NAME`: a rolling restart.

use clap::Args;
use http::Method;

use super::client::Client;
use super::{CliError, output};
use crate::admin::view::ServiceView;
use crate::http_client::segment;

#[derive(Debug, Args)]
pub(super) struct RestartArgs {
    /// The service.
    name: String,
}

pub(super) async fn restart(args: &RestartArgs, client: &Client) -> Result<(), CliError> {
    let path = format!("/services/{}/restart", segment(&args.name));
    let service: ServiceView = client.json(Method::POST, &path, None).await?;
    Ok(output::line(text(&service))?)
}

fn text(service: &ServiceView) -> String {
    let count = service.instances.iter().filter(|instance| instance.outdated).count();
    let plural = if count == 1 { "" } else { "s" };
    match count {
        0 => format!("{}: no running instance to replace", service.name),
        _ => format!(
            "{}: restarting {count} instance{plural}; `longshore ps` shows how far it is",
            service.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ps::tests::example;
    use super::*;

    #[test]
    fn it_says_how_many_are_replaced() {
        let mut service = example().services.remove(0);
        assert_eq!(text(&service), "calc: no running instance to replace");
        service.instances[0].outdated = true;
        assert_eq!(text(&service), "calc: restarting 1 instance; `longshore ps` shows how far it is");
    }
}
