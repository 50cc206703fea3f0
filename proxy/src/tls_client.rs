//! TLS with servers that the proxy asks by itself: whom it believes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Whose certificates are believed.
pub(crate) type Trust = Arc<ClientConfig>;

/// Those that this system believes, or that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(crate) fn of_the_system() -> Result<Trust, String> {
    static TRUST: OnceLock<Result<Trust, String>> = OnceLock::new();
    TRUST
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let (known, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if known == 0 {
                return Err(
                    "this system has no certificates to believe: install ca-certificates, or set SSL_CERT_FILE"
                        .to_owned(),
                );
            }
            believing(roots)
        })
        .clone()
}

/// Those that the authorities in a PEM file have signed, and no others.
pub(crate) fn of_file(path: &Path) -> Result<Trust, String> {
    let name = path.display();
    let text = std::fs::read(path)
        .map_err(|error| format!("cannot read the certificates to believe in {name}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("{name} cannot be understood: {error}"))?;
        roots.add(certificate).map_err(|error| format!("{name} has a certificate that is none: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!(
            "{name} has no certificate: it is a PEM file, with -----BEGIN CERTIFICATE----- in it"
        ));
    }
    believing(roots)
}

fn believing(roots: RootCertStore) -> Result<Trust, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_no_authority_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(of_file(&path).unwrap_err().contains("cannot read"));
        for (text, said) in [
            ("", "has no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "that is none"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "cannot be understood"),
        ] {
            std::fs::write(&path, text).unwrap();
            let why = of_file(&path).unwrap_err();
            assert!(why.contains(said), "{text:?}: {why}");
        }
    }
}
