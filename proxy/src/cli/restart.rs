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
    let outdated = service.instances.iter().filter(|instance| instance.outdated).count();
    // What had ended is not replaced: it starts.
    let starting = service.instances.iter().filter(|instance| instance.state == "starting").count();
    let (what, count) = match (outdated, starting) {
        (0, 0) => return format!("{}: no running instance to replace", service.name),
        (0, starting) => ("starting", starting),
        (outdated, _) => ("restarting", outdated),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{}: {what} {count} instance{plural}; `longshore ps` shows how far it is", service.name)
}

#[cfg(test)]
mod tests {
    use super::super::ps::tests::example;
    use super::*;

    #[test]
    fn it_says_how_many_are_replaced() {
        let mut service = example().services.remove(0);
        assert_eq!(text(&service), "calc: starting 1 instance; `longshore ps` shows how far it is");
        service.instances.pop();
        assert_eq!(text(&service), "calc: no running instance to replace");
        service.instances[0].outdated = true;
        assert_eq!(text(&service), "calc: restarting 1 instance; `longshore ps` shows how far it is");
    }
}
