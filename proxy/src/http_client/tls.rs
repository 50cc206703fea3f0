//! TLS to a server that a URL names: believed are the authorities that this machine believes, or those of a file.

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error, InvalidMessage, RootCertStore};

/// Read once: the machine's list has some hundred entries.
static CONNECTOR: LazyLock<Result<TlsConnector, String>> = LazyLock::new(connector);

/// Whom to believe instead.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

impl Trust {
    /// The authorities in a PEM file, and no others.
    pub(crate) fn of_file(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read(path)
            .map_err(|error| format!("cannot read the certificates to believe in {name}: {error}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| format!("{name} cannot be understood: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("{name} has a certificate that is none: {error}"))?;
        }
        if roots.is_empty() {
            return Err(format!(
                "{name} has no certificate: it is a PEM file, with -----BEGIN CERTIFICATE----- in it"
            ));
        }
        believing(roots).map(Self)
    }
}

/// Shakes hands with the server of this name, or of this address.
///
/// # Errors
/// A certificate that is not for `host`, or of an authority that this machine does not know; a list of authorities that
/// is missing; whatever broke.
pub(crate) async fn secured(
    host: &str,
    stream: TcpStream,
    trust: Option<&Trust>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = match trust {
        Some(Trust(connector)) => connector,
        None => CONNECTOR.as_ref().map_err(|why| io::Error::other(why.clone()))?,
    };
    connector.connect(name, stream).await.map_err(plainly)
}

/// What is no record of TLS comes from who does not speak it.
fn plainly(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            io::Error::other("it does not speak TLS: is it http:// that is meant?")
        }
        Some(_) | None => error,
    }
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
    believing(roots)
}

fn believing(roots: RootCertStore) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_no_authority_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let why = || Trust::of_file(&path).err().unwrap();
        assert!(why().contains("cannot read"));
        for (text, said) in [
            ("", "has no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "that is none"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "cannot be understood"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(why().contains(said), "{text:?}: {}", why());
        }
    }
}
