//! TLS to a server that a URL names: believed are the authorities that this machine believes.

use std::io;
use std::sync::{Arc, LazyLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Read once: the machine's list has some hundred entries.
static CONNECTOR: LazyLock<Result<TlsConnector, String>> = LazyLock::new(connector);

/// Shakes hands with the server of this name, or of this address.
///
/// # Errors
/// A certificate that is not for `host`, or of an authority that this machine does not know; a list of authorities that
/// is missing; whatever broke.
pub(crate) async fn secured(host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = CONNECTOR.as_ref().map_err(|why| io::Error::other(why.clone()))?;
    connector.connect(name, stream).await
}

/// The authorities are those of `SSL_CERT_FILE` or `SSL_CERT_DIR` where one is set, else the system's.
fn connector() -> Result<TlsConnector, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this machine knows no certificate authority{why}; install ca-certificates, or name a file of them in \
             SSL_CERT_FILE"
        ));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
