//! Who the proxy is to clients that speak TLS: a certificate and its key, read from their files, and checked to belong
//! together before anybody relies on them.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};

use super::diagnostics::{Diagnostic, Diagnostics};
use super::expiry;
use super::listeners::TlsFiles;

/// What is offered by ALPN, the best first.
const PROTOCOLS: [&[u8]; 3] = [HTTP_2, b"http/1.1", b"http/1.0"];

/// The keys of cluster.toml that name the files.
const CERT: &str = "proxy.tls.cert";
const KEY: &str = "proxy.tls.key";

/// The name of HTTP/2 in ALPN.
pub const HTTP_2: &[u8] = b"h2";

/// A certificate with its key, ready to be used.
#[derive(Clone)]
pub struct Identity {
    server: Arc<ServerConfig>,
    /// Of everything that was in the files.
    digest: [u8; 32],
    expires: Option<Timestamp>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Identity {
    /// What a handshake goes by.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// When clients stop believing the certificate, if it says so in a way that is understood.
    pub const fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// Reads the files. Every mistake in them is told, with what to do about it.
pub fn load(files: &TlsFiles) -> Result<Identity, Diagnostics> {
    let all = |wrong| Diagnostics::new("", "", wrong);
    match (certificates(&files.cert), key(&files.key)) {
        (Ok(chain), Ok(key)) => together(files, chain, key).map_err(|wrong| all(vec![*wrong])),
        (chain, key) => {
            let cert = chain.err().map(|wrong| wrong.about(CERT));
            Err(all(cert.into_iter().chain(key.err().map(|wrong| wrong.about(KEY))).collect()))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<Diagnostic>> {
    let name = path.display();
    let text = read(path, "certificate", "cert")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| Box::new(garbled("certificate", path, &error)))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    let wrong = Diagnostic::whole(format!("{name} has no certificate"));
    Err(Box::new(wrong.help(match PrivateKeyDer::from_pem_slice(&text) {
        Ok(_) => "it has a private key: are `cert` and `key` of `proxy.tls` the wrong way round?",
        Err(_) => "`proxy.tls.cert` is a PEM file, with -----BEGIN CERTIFICATE----- in it",
    })))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Box<Diagnostic>> {
    let name = path.display();
    let text = read(path, "private key", "key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        Box::new(match error {
            pem::Error::NoItemsFound => {
                let encrypted = text.windows(21).any(|part| part == b"ENCRYPTED PRIVATE KEY");
                let wrong = match encrypted {
                    true => format!("the private key in {name} is encrypted"),
                    false => format!("{name} has no private key"),
                };
                Diagnostic::whole(wrong).help(match encrypted {
                    true => {
                        "nobody is asked for its password: decrypt it with `openssl pkey -in OLD -out NEW`"
                    }
                    false => "`proxy.tls.key` is a PEM file, with -----BEGIN PRIVATE KEY----- in it",
                })
            }
            error => garbled("private key", path, &error),
        })
    })
}

fn read(path: &Path, what: &str, key: &str) -> Result<Vec<u8>, Box<Diagnostic>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the {what} in {}: {error}", path.display());
        Box::new(Diagnostic::whole(message).help(format!("`proxy.tls.{key}` names the PEM file that has it")))
    })
}

fn garbled(what: &str, path: &Path, error: &pem::Error) -> Diagnostic {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "it breaks off".to_owned(),
        pem::Error::Base64Decode(_) => "it is not base64 between its lines of BEGIN and END".to_owned(),
        other => other.to_string(),
    };
    Diagnostic::whole(format!("the {what} in {} cannot be understood: {why}", path.display()))
        .help("was the file copied as a whole?")
}

/// Checks that clients would get what they expect.
fn together(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Identity, Box<Diagnostic>> {
    let mut digest = Sha256::new();
    for part in chain.iter().map(AsRef::as_ref).chain([key.secret_der()]) {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let expires = chain.first().and_then(|first| expiry::of(first));
    let mut server = server(chain, key).map_err(|error| Box::new(unusable(files, &error)))?;
    server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Identity { server: Arc::new(server), digest: digest.finalize().into(), expires })
}

fn server(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut server = builder.with_single_cert(chain, key)?;
    // A client that comes back need not be remembered: it brings what the proxy has to know.
    server.ticketer = ring::Ticketer::new()?;
    Ok(server)
}

fn unusable(files: &TlsFiles, error: &Error) -> Diagnostic {
    let (cert, key) = (files.cert.display(), files.key.display());
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Diagnostic::whole(format!(
            "the private key in {key} is not that of the certificate in {cert}"
        ))
        .help("the certificate of the proxy itself comes first in its file, then those that lead to its root")
        .about(KEY),
        Error::InvalidCertificate(why) => {
            Diagnostic::whole(format!("the certificate in {cert} cannot be used: {why:?}"))
                .help("look at it with `openssl x509 -text -in FILE`")
                .about(CERT)
        }
        error => {
            let why = match error {
                Error::General(why) => why.clone(),
                error => error.to_string(),
            };
            Diagnostic::whole(format!("the private key in {key} cannot be used: {why}"))
                .help("a key is RSA of 2048 bits or more, ECDSA (P-256, P-384) or Ed25519")
                .about(KEY)
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    /// A certificate and its key.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["calc".to_owned()]).unwrap().self_signed(&key).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }

    /// What is said of files with these contents.
    fn read(cert: &str, key: &str) -> Result<Identity, String> {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        load(&files).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_certificate_and_its_key_make_an_identity() {
        let ((cert, key), (other, other_key)) = (pair(), pair());
        let first = read(&cert, &key).unwrap();
        assert_eq!(first, read(&format!("a remark\n{cert}"), &key).unwrap(), "only what counts is compared");
        assert_ne!(first, read(&other, &other_key).unwrap());
        assert_ne!(first, read(&format!("{cert}{other}"), &key).unwrap(), "the chain is part of it");
        assert_eq!(read(&format!("{key}{cert}"), &format!("{cert}{key}")).unwrap(), first, "in one file");
        assert_eq!(first.server().alpn_protocols, [&b"h2"[..], b"http/1.1", b"http/1.0"]);
        assert!(first.expires().is_some());
        assert!(!format!("{first:?}").contains("key"), "a key is never shown");
    }

    #[test]
    fn every_mistake_in_the_files_is_told() {
        let ((cert, key), (other, other_key)) = (pair(), pair());
        let garbled = |text: &str| text.replacen('M', "!", 1);
        let encrypted = pem("ENCRYPTED PRIVATE KEY", b"secret");
        for (cert, key, said, help) in [
            (&*cert, &*other_key, "is not that of the certificate", "comes first in its file"),
            (&*format!("{other}{cert}"), &*key, "is not that of the certificate", "comes first in its file"),
            ("", &*key, "cert.pem has no certificate", "BEGIN CERTIFICATE"),
            (&*key, &*key, "cert.pem has no certificate", "the wrong way round"),
            (&*cert, "nothing", "key.pem has no private key", "BEGIN PRIVATE KEY"),
            (&*cert, &*encrypted, "key.pem is encrypted", "openssl pkey"),
            (&*garbled(&cert), &*key, "cannot be understood: it is not base64", "as a whole"),
            (&cert[..cert.len() - 40], &*key, "cannot be understood: it breaks off", "as a whole"),
            (&*cert, &key[..key.len() - 40], "the private key in", "as a whole"),
            (&*pem("CERTIFICATE", b"rubbish"), &*key, "cannot be used", "openssl x509"),
            (&*cert, &*pem("PRIVATE KEY", b"rubbish"), "the private key in", "ECDSA (P-256, P-384)"),
        ] {
            let shown = read(cert, key).unwrap_err();
            assert!(shown.contains(said) && shown.contains(help), "{said}: {shown}");
            assert_eq!(shown.matches("error:").count(), 1, "{shown}");
        }
        assert_eq!(read("", "").unwrap_err().matches("error:").count(), 2, "both at once");
        let nowhere = TlsFiles { cert: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() };
        let shown = load(&nowhere).unwrap_err().to_string();
        for said in ["certificate in /nowhere/c.pem: No such file", "`proxy.tls.cert`", "`proxy.tls.key`"] {
            assert!(shown.contains(said), "{shown}");
        }
    }
}
