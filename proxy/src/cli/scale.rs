//! `longshore scale NAME=SIZE…`: sets sizes at run time.

use clap::Args;
use http::Method;
use serde_json::Value as Json;

use super::client::Client;
use super::{CliError, output};
use crate::admin::view::{ServiceView, SizeRequest};
use crate::config::parse_size;
use crate::http_client::segment;

#[derive(Debug, Args)]
pub(super) struct ScaleArgs {
    /// A service and how many instances it shall have.
    #[arg(required = true, value_name = "NAME=SIZE", value_parser = wish)]
    wishes: Vec<Wish>,
}

/// One `NAME=SIZE`.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    name: String,
    size: Json,
}

/// What is JSON is sent as such, anything else as a string, so that every form of `size` can be written.
fn wish(text: &str) -> Result<Wish, String> {
    let (name, size) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("it is NAME=SIZE")?;
    let size = serde_json::from_str(size).unwrap_or_else(|_| Json::String(size.to_owned()));
    Ok(Wish { name: name.to_owned(), size })
}

pub(super) async fn scale(args: &ScaleArgs, client: &Client) -> Result<(), CliError> {
    // All of them are looked at first: a mistake in the second should not leave the first half of the work done.
    for (index, Wish { name, size }) in args.wishes.iter().enumerate() {
        parse_size(size).map_err(|error| CliError::Usage(format!("{name}: {error}")))?;
        if args.wishes[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(CliError::Usage(format!("{name} is to have two sizes: name it once")));
        }
    }
    // One that is alone is looked for where it is set.
    if args.wishes.len() > 1 {
        for Wish { name, .. } in &args.wishes {
            client.service(name).await?;
        }
    }
    for Wish { name, size } in &args.wishes {
        let body = serde_json::json!(SizeRequest { size: size.clone() });
        let path = format!("/services/{}/size", segment(name));
        let service: ServiceView = client.json(Method::PUT, &path, Some(&body)).await?;
        output::line(text(&service))?;
    }
    Ok(())
}

fn text(service: &ServiceView) -> String {
    let size = &service.size;
    format!("{}: {} wanted, {} ready, {} starting", service.name, size.wanted, size.ready, size.starting)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ps::tests::example;
    use super::*;

    #[test]
    fn a_size_is_sent_as_it_is_meant() {
        assert_eq!(wish("calc=3").map(|wish| wish.size), Ok(json!(3)));
        assert_eq!(wish("calc=-1").map(|wish| wish.size), Ok(json!(-1)));
        assert_eq!(wish("calc=if queue == 1 { 2 }").map(|wish| wish.size), Ok(json!("if queue == 1 { 2 }")));
        assert!(wish("calc").is_err() && wish("=3").is_err());
    }

    #[tokio::test]
    async fn a_wrong_size_stops_all_of_them_before_anything_is_sent() {
        let client = Client::new("http://127.0.0.1:1", None).unwrap();
        let args = ScaleArgs { wishes: vec![wish("a=1").unwrap(), wish("b=x").unwrap()] };
        let error = scale(&args, &client).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("b: this is no expression, got \"x\""), "{error}");
        let args = ScaleArgs { wishes: vec![wish("a=1").unwrap(), wish("a=2").unwrap()] };
        let error = scale(&args, &client).await.unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("a is to have two sizes")), (2, true));
    }

    #[test]
    fn the_result_is_a_line() {
        assert_eq!(text(&example().services[0]), "calc: 3 wanted, 1 ready, 1 starting");
    }
}
