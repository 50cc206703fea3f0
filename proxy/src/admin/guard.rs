//! Who may ask. Without a token the API is for this machine's users only, which takes more than a loopback address: a
//! page in their browser can reach that too, by a name that it has pointed there, or by a form.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};

use super::Admin;
use super::routes::refuse;
use crate::problem::Problem;

/// What orchestrators ask, who have no token.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Who asks may not know more than whether all is well.
#[derive(Clone, Copy, Debug)]
pub struct Stranger;

/// Lets a request pass, or answers 401 or 403.
pub async fn guard(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let allowed = match &*admin.token.load() {
        Some(token) => has_token(headers, token),
        None => is_local(headers).and_then(|()| is_same_origin(request.method(), headers)),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(_) if OPEN.contains(&request.uri().path()) && request.method().is_safe() => {
            request.extensions_mut().insert(Stranger);
            next.run(request).await
        }
        Err(problem) => refuse(&problem, headers),
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Digests of equal length are compared, so that the time taken tells nothing of the token.
    let equal =
        Sha256::digest(given.trim()).iter().zip(Sha256::digest(token)).fold(0, |acc, (a, b)| acc | (a ^ b));
    if equal == 0 {
        Ok(())
    } else {
        Err(Problem::Unauthorized(
            "this admin API demands its token: send `Authorization: Bearer TOKEN`, or give the command --token".into(),
        ))
    }
}

fn is_local(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(name, _)| name);
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    if name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback())
    {
        return Ok(());
    }
    Err(Problem::Forbidden(format!(
        "the admin API has no token and so answers only to localhost, not to {host:?}; set [admin] token_file to reach \
         it by other names"
    )))
}

fn is_same_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN).filter(|_| !method.is_safe()) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let same = origin.to_str().is_ok_and(|origin| origin.split_once("://").is_some_and(|(_, of)| of == host));
    if same {
        Ok(())
    } else {
        Err(Problem::Forbidden("a page of another origin may not change anything here".into()))
    }
}
