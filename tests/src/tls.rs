//! A certificate authority of the test's own, and clients that believe it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Whom the clients of a test believe.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate for this machine, and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    /// One that nobody knows yet.
    ///
    /// # Panics
    /// Without chance.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // What has the name of its issuer is taken to be its own issuer.
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A new certificate for `localhost`, `calc` and 127.0.0.1.
    ///
    /// # Panics
    /// Without chance.
    pub fn issue(&self) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "calc".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").der().clone();
        Pair { certificate, key: key.serialize_der() }
    }

    /// Its own certificate, as `curl --cacert` wants it.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// Connects and shakes hands, offering these protocols.
    ///
    /// # Errors
    /// Whatever broke.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(std::io::Error::other)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(std::io::Error::other)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// A server that has this certificate.
    ///
    /// # Panics
    /// Without chance.
    pub fn acceptor(&self) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let key = PrivateKeyDer::try_from(self.key.clone()).expect("a key");
        let config =
            builder.with_single_cert(vec![self.certificate.clone()], key).expect("they belong together");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Puts both where `proxy.tls` looks for them.
    ///
    /// # Panics
    /// When the folder cannot be written to.
    pub fn write(&self, folder: &Path) {
        for (name, text) in [("cert.pem", self.certificate_pem()), ("key.pem", self.key_pem())] {
            // As a deployment does it: never half a file.
            let beside = folder.join(format!("{name}.new"));
            std::fs::write(&beside, text).expect("the folder can be written to");
            std::fs::rename(&beside, folder.join(name)).expect("it can be replaced");
        }
    }

    /// In PEM.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// In PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<String> = STANDARD
        .encode(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
