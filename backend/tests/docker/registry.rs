//! A registry with one image of one layer, as much of it as a pull needs; and pulls from it.
//!
//! Engines speak plain HTTP to 127.0.0.0/8.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_backend::{Backend as _, Pull, Spec, StartError};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Cluster, Recorder, Silent, get, key, server};

/// Content type and body by path.
type Pages = HashMap<String, (&'static str, Vec<u8>)>;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const BLOB: &str = "application/octet-stream";

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The image `calc:2`, with the server in it.
fn pages() -> Pages {
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_path_with_name(server(), "server").expect("the server is there");
    let layer = layer.into_inner().expect("a layer");
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Cmd":["/server"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&layer)
    )
    .into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","size":{},"digest":"{}"}}]}}"#,
        config.len(),
        digest(&config),
        layer.len(),
        digest(&layer)
    )
    .into_bytes();
    HashMap::from([
        ("/v2/".to_owned(), ("application/json", b"{}".to_vec())),
        (format!("/v2/calc/manifests/{}", digest(&manifest)), (MANIFEST, manifest.clone())),
        ("/v2/calc/manifests/2".to_owned(), (MANIFEST, manifest)),
        (format!("/v2/calc/blobs/{}", digest(&config)), (BLOB, config)),
        (format!("/v2/calc/blobs/{}", digest(&layer)), (BLOB, layer)),
    ])
}

/// Serves until the test's runtime ends.
async fn registry() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let pages = Arc::new(pages());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let pages = pages.clone();
            tokio::spawn(async move {
                // The engine hangs up when it has all that it wants.
                let _ = serve(connection, &pages).await;
            });
        }
    });
    address
}

async fn serve(connection: TcpStream, pages: &Pages) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let unknown = (
        "application/json",
        br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec(),
    );
    let (status, (kind, body)) = pages.get(path).map_or(("404 Not Found", &unknown), |page| ("200 OK", page));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(body)
    );
    connection.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        connection.write_all(body).await?;
    }
    connection.shutdown().await
}

#[tokio::test]
async fn a_missing_image_is_pulled_with_its_progress_and_runs() {
    let mut cluster = Cluster::without_image(None).await;
    cluster.image = format!("{}/calc:2", registry().await);
    let spec = Spec { build: None, pull: Pull::Missing, ..cluster.spec() };
    let progress = Recorder::default();
    cluster.backend.prepare(&spec, false, &progress).await.unwrap();
    let steps = std::mem::take(&mut *progress.1.lock());
    let (done, total) = *steps.last().unwrap();
    assert!(done == total && total > 100_000, "{steps:?}");
    assert!(steps.is_sorted_by_key(|(done, _)| *done), "{steps:?}");

    cluster.backend.prepare(&spec, false, &progress).await.unwrap();
    assert!(progress.1.lock().is_empty(), "what is there is not pulled again");
    let always = Spec { pull: Pull::Always, ..spec.clone() };
    cluster.backend.prepare(&always, false, &progress).await.unwrap();
    assert!(!progress.1.lock().is_empty(), "unless it always is");
    let address = cluster.backend.start(&key(0), &spec).await.unwrap();
    assert_eq!(get(address).await, "hello");
}

#[tokio::test]
async fn a_tag_that_the_registry_lacks_is_told() {
    let cluster = Cluster::without_image(None).await;
    let image = format!("{}/calc:3", registry().await);
    let spec = Spec { image, build: None, pull: Pull::Missing, ..cluster.spec() };
    let error = cluster.backend.prepare(&spec, false, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, StartError::Futile(text) if text.contains("manifest unknown") || text.contains("not found")),
        "{error:?}"
    );
}
