//! TLS: what is agreed on, who is refused, certificates that change, and that everything behind it is as it is without.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use longshore_tests::command::run;
use longshore_tests::http2::{Http2, grpc, messages, status};
use longshore_tests::raw::{Raw, exchange};
use longshore_tests::tls::{Authority, Pair};
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, each, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TLS: &str = "tls = { listen = [\"127.0.0.1:0\"], cert = \"cert.pem\", key = \"key.pem\" }";

/// What speaks TLS, and whom to believe about it.
struct Secure {
    cluster: Cluster,
    authority: Authority,
    pair: Pair,
}

/// A setup with a certificate.
fn setup(backend: Backend) -> (Setup, Authority, Pair) {
    let (setup, authority) = (Setup::new(backend).proxy(TLS), Authority::new());
    let pair = authority.issue();
    setup.file("cert.pem", &pair.certificate_pem());
    setup.file("key.pem", &pair.key_pem());
    setup.file("ca.pem", &authority.pem());
    (setup, authority, pair)
}

async fn secure(backend: Backend, lines: &str, arguments: &str, keys: &str) -> Secure {
    let (setup, authority, pair) = setup(backend);
    let cluster = setup.proxy(lines).model("calc", arguments, keys).start().await;
    Secure { cluster, authority, pair }
}

impl Secure {
    async fn http2(&self) -> Http2 {
        let stream =
            self.authority.connect(self.cluster.secure_address(), &["h2"]).await.expect("a handshake");
        Http2::over(stream).await
    }

    /// A request in HTTP/1.1 on a connection of its own, to the end of the answer.
    async fn ask(&self, request: &str) -> String {
        let address = self.cluster.secure_address();
        let mut stream = self.authority.connect(address, &["http/1.1"]).await.expect("a handshake");
        stream.write_all(request.as_bytes()).await.expect("it is open");
        let mut answer = Vec::new();
        // An end without a farewell is one, too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Whether a new connection is shown this certificate.
    async fn shows(&self, pair: &Pair) -> Option<()> {
        let address = self.cluster.secure_address();
        let stream = self.authority.connect(address, &["h2"]).await.expect("a handshake");
        (stream.get_ref().1.peer_certificates()?.first() == Some(&pair.certificate)).then_some(())
    }

    async fn handshakes(&self, result: &str, count: f64) {
        let labels = [("result", result)];
        self.cluster.admin().counts("longshore_tls_handshakes_total", &labels, count).await;
    }
}

/// Runs curl; its exit code, and what it printed.
async fn curl(folder: &std::path::Path, arguments: &[&str], url: &str) -> (i32, String) {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "-q", "--noproxy", "*", "--max-time", "20"]).args(arguments).arg(url);
    command.args(["-w", " %{http_version} %{http_code}"]).current_dir(folder).kill_on_drop(true);
    let done = command.stdin(Stdio::null()).output().await.expect("curl is installed");
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned())
}

async fn curl_speaks_every_version_that_there_is(backend: Backend) {
    let secure = secure(backend, "", "calculator", "").await;
    let url = format!("https://localhost:{}/add/3/4", secure.cluster.secure_address().port());
    let believed = ["--cacert", "ca.pem"];
    let rows: [(&[&str], i32, &str); 10] = [
        (&["--http2"], 0, "7 2 200"),
        (&["--http1.1"], 0, "7 1.1 200"),
        (&["--http1.0"], 0, "7 1 200"),
        (&["--no-alpn"], 0, "7 1.1 200"),
        (&["--http2", "--tlsv1.3"], 0, "7 2 200"),
        (&["--http2", "--tls-max", "1.2"], 0, "7 2 200"),
        (&["--http1.1", "--tls-max", "1.2"], 0, "7 1.1 200"),
        (&["--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0"], 35, " 0 000"),
        (&["--capath", "/nowhere"], 60, " 0 000"),
        (&["--http2", "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256", "--tls-max", "1.2"], 0, "7 2 200"),
    ];
    for (arguments, code, printed) in rows {
        let all = if code == 60 { arguments.to_vec() } else { [&believed, arguments].concat() };
        let (ended, said) = curl(secure.cluster.folder(), &all, &url).await;
        assert!(ended == code && said.ends_with(printed), "{arguments:?}: {ended} {said}");
    }
    secure.cluster.stop().await;
}

async fn only_what_is_offered_is_agreed_on() {
    let secure = secure(Backend::Process, "", "calculator", "").await;
    let address = secure.cluster.secure_address();
    let rows: [(&[&str], Option<&str>); 6] = [
        (&["h2", "http/1.1"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.0"], Some("http/1.0")),
        (&["spdy/3"], None),
        (&["h2c"], None),
    ];
    for (offered, agreed) in rows {
        let stream = secure.authority.connect(address, offered).await;
        let found = stream.as_ref().ok().and_then(|stream| stream.get_ref().1.alpn_protocol());
        assert_eq!(found, agreed.map(str::as_bytes), "{offered:?}: {:?}", stream.as_ref().err());
        let why = stream.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(why.contains("NoApplicationProtocol"), agreed.is_none(), "{offered:?}: {why}");
    }
    secure.handshakes("completed", 4.0).await;
    secure.handshakes("failed", 2.0).await;
    let told = exchange(address, "GET /add/3/4 HTTP/1.1\r\nHost: calc\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("ask with https://"), "{told}");
    let told = exchange(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    assert_eq!(exchange(address, [0; 64]).await.matches("HTTP").count(), 0, "no answer in the clear");
    secure.handshakes("failed", 5.0).await;
    let answer = secure.ask("GET /add/3/4 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
    let answer = secure.ask("nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("urn:longshore:bad-request"), "{answer}");
    secure.cluster.stop().await;
}

async fn a_handshake_that_does_not_end_is_ended() {
    let lines = "request_header_timeout = \"1s\"\nlimits = { handshakes = 2 }";
    let secure = secure(Backend::Process, lines, "calculator", "").await;
    let address = secure.cluster.secure_address();
    let begun = Instant::now();
    let mut stuck = Vec::new();
    eventually(PATIENCE, "all places are taken", async || {
        let mut raw = Raw::connect(address).await;
        if stuck.len() % 2 == 1 {
            raw.send([0x16, 3, 1, 2]).await;
        }
        stuck.push(raw);
        secure.authority.connect(address, &["h2"]).await.is_err().then_some(())
    })
    .await;
    for raw in stuck {
        assert_eq!(raw.rest().await, "");
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "ended after {:?}", begun.elapsed());
    for (result, least) in [("refused", 1.0), ("timed-out", 2.0)] {
        let labels = [("result", result)];
        let count = secure.cluster.admin().metrics().await.sum("longshore_tls_handshakes_total", &labels);
        assert!(count >= least, "{result}: {count}");
    }
    assert_eq!(secure.http2().await.send(Request::get("https://calc/add/3/4"), "").await.text(), "7");
    // After the handshake a client has its time to say something.
    let mut idle = secure.authority.connect(address, &["http/1.1"]).await.expect("a handshake");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    idle.write_all(b"GET /add/3/4 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n").await.expect("open");
    let mut answer = String::new();
    let _ = idle.read_to_string(&mut answer).await;
    assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
    secure.cluster.stop().await;
}

async fn an_instance_is_told_how_a_request_came() {
    let (setup, authority, pair) = setup(Backend::Process);
    let cluster = setup.proxy("trusted = []").model("echo", "echo", "").start().await;
    let secure = Secure { cluster, authority, pair };
    let port = secure.cluster.secure_address().port();
    let tell = |authority: &str| {
        [
            ("x-forwarded-proto", "https".to_owned()),
            ("x-forwarded-port", authority.split_once(':').map_or("443", |(_, port)| port).to_owned()),
            ("x-forwarded-host", authority.to_owned()),
            ("forwarded", format!("for=127.0.0.1;proto=https;host=\"{authority}\"")),
        ]
    };
    let client = secure.http2().await;
    for host in [format!("echo:{port}"), "echo".to_owned()] {
        // What a client claims itself counts for nothing.
        let request = Request::get(format!("https://{host}/x")).header("x-forwarded-proto", "http");
        let answer = client.send(request, "").await.json();
        let text = answer["headers"].to_string();
        for (name, value) in tell(&host) {
            let pair = serde_json::json!([name, value]).to_string();
            assert!(text.contains(&pair), "{pair}: {text}");
        }
    }
    let request = "GET /x HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n";
    assert!(secure.ask(request).await.contains("[\"x-forwarded-proto\",\"https\"]"));
    let plain = secure.cluster.client().get("/x").await.json();
    assert!(plain["headers"].to_string().contains("[\"x-forwarded-proto\",\"http\"]"), "{plain}");
    // A job remembers it.
    let ticket =
        client.send(Request::post("https://echo/later").header("prefer", "respond-async"), "x").await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    let result = format!("https://echo/_jobs/{}/result", ticket.json()["id"].as_str().expect("an id"));
    let seen = eventually(PATIENCE, "the job is done", async || {
        let reply = client.send(Request::get(&result), "").await;
        (reply.status == 200).then(|| reply.text())
    })
    .await;
    assert!(seen.contains("[\"x-forwarded-proto\",\"https\"]"), "{seen}");
    secure.cluster.stop().await;
}

async fn what_is_carried_without_it_is_carried_over_it(backend: Backend) {
    let (setup, authority, pair) = setup(backend);
    let cluster = setup
        .model("calc", "calculator", "default = true\nconcurrency = 0")
        .model("rpc", "calculator", "protocol = \"h2c\"\nconcurrency = 0\nhosts = [\"rpc\"]")
        .start()
        .await;
    let secure = Secure { cluster, authority, pair };
    let client = secure.http2().await;
    // gRPC.
    let call = grpc("Chat").header("longshore-service", "rpc");
    let reply = client.call(call, b"hello").await;
    assert_eq!((messages(&reply.body), status(&reply).as_str()), (vec!["hello".to_owned()], "0"));
    // A protocol that takes a stream over, or a connection.
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("https://calc/upgrade")
        .extension(Protocol::from_static("echo"));
    let nothing = Empty::<Bytes>::new().map_err(|never| match never {});
    let response = client.open(connect, nothing).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut taken = TokioIo::new(hyper::upgrade::on(response).await.expect("it is taken over"));
    let address = secure.cluster.secure_address();
    let mut raw = secure.authority.connect(address, &["http/1.1"]).await.expect("a handshake");
    raw.write_all(b"GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .expect("it is open");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(raw.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    for word in ["ping", "\u{0}\u{1}", "GET / HTTP/1.1\r\n\r\n"] {
        let mut back = vec![0; word.len()];
        taken.write_all(word.as_bytes()).await.expect("it is open");
        taken.read_exact(&mut back).await.expect("it comes back");
        assert_eq!(back, word.as_bytes());
        raw.write_all(word.as_bytes()).await.expect("it is open");
        raw.read_exact(&mut back).await.expect("it comes back");
        assert_eq!(back, word.as_bytes());
    }
    assert_eq!(secure.cluster.admin().in_flight("calc").await, 2, "each holds its slot");
    drop((taken, raw));
    secure.cluster.admin().works_on("calc", 0).await;
    secure.cluster.stop().await;
}

async fn an_instance_that_is_killed_costs_no_answer(backend: Backend) {
    let secure = secure(backend, "", "sleep", "size = 2\nconcurrency = 1").await;
    let client = secure.http2().await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let client = client.clone();
        asked.spawn(async move { client.send(Request::get("https://calc/sleep/200ms"), "").await.status });
    }
    let address = secure.cluster.secure_address();
    let mut raw = secure.authority.connect(address, &["http/1.1"]).await.expect("a handshake");
    raw.write_all(b"GET /sleep/200ms HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n")
        .await
        .expect("open");
    secure.cluster.admin().works_on("calc", 2).await;
    secure.cluster.kill_instances(&secure.cluster.admin().ready("calc").await).await;
    assert_eq!(asked.join_all().await, [200; 12]);
    let mut answer = String::new();
    let _ = raw.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let replays = secure.cluster.admin().metrics().await.sum("longshore_replays_total", &[]);
    assert!(replays >= 2.0, "{replays} replays");
    secure.cluster.admin().lost_nothing("calc").await;
    secure.cluster.stop().await;
}

async fn a_certificate_is_renewed_while_a_stream_is_open() {
    let secure = secure(Backend::Process, "", "calculator", "concurrency = 0").await;
    let client = secure.http2().await;
    let request = Request::get("https://calc/stream?chunks=60&interval_ms=100");
    let nothing = Empty::<Bytes>::new().map_err(|never| match never {});
    let mut stream = client.open(request, nothing).await.expect("an answer").into_body();
    stream.frame().await.expect("a part").expect("whole");
    secure.shows(&secure.pair).await.expect("the certificate that it began with");
    let reloads = async |result: &str, count: f64| {
        let labels = [("result", result)];
        secure.cluster.admin().counts("longshore_tls_certificate_reloads_total", &labels, count).await;
    };
    let folder = secure.cluster.folder();
    let next = secure.authority.issue();
    next.write(folder);
    eventually(PATIENCE, "the next certificate is shown", async || secure.shows(&next).await).await;
    reloads("applied", 1.0).await;
    // Wrong ones change nothing: half a file, and a certificate whose key has not come yet.
    secure.cluster.expect_error("the certificate stays as it was");
    let last = secure.authority.issue();
    for (text, count) in [(&last.certificate_pem()[..100], 1.0), (&last.certificate_pem(), 2.0)] {
        std::fs::write(folder.join("cert.pem"), text).expect("it can be written");
        reloads("refused", count).await;
        secure.shows(&next).await.expect("the certificate that was right");
    }
    std::fs::write(folder.join("key.pem"), last.key_pem()).expect("it can be written");
    eventually(PATIENCE, "the last certificate is shown", async || secure.shows(&last).await).await;
    let rest = stream.collect().await.expect("the stream goes on to its end").to_bytes();
    assert!(!rest.is_empty());
    assert_eq!(
        client.send(Request::get("https://calc/add/3/4"), "").await.text(),
        "7",
        "as the connection does"
    );
    secure.cluster.stop().await;
}

async fn mistakes_in_the_files_are_told_before_anything_starts() {
    let (setup, authority, pair) = setup(Backend::Process);
    let config = setup.model("calc", "calculator", "");
    let path = config.write();
    let (file, other) = (path.to_str().expect("a plain path"), authority.issue());
    let check = async |command: &str| run(PATIENCE, &[command, "-c", file], &[]).await;
    let right = check("check").await;
    assert_eq!(right.code, 0, "{}", right.stderr);
    let cert = pair.certificate_pem();
    let rows = [
        ("key.pem", Some(other.key_pem()), "is not that of the certificate"),
        ("key.pem", Some(cert.clone()), "key.pem has no private key"),
        ("key.pem", None, "cannot read the private key"),
        ("cert.pem", Some(pair.key_pem()), "the wrong way round"),
        ("cert.pem", Some(cert[..90].to_owned()), "it breaks off"),
        ("cert.pem", None, "cannot read the certificate"),
    ];
    for (name, text, said) in rows {
        let wrong = path.with_file_name(name);
        match &text {
            Some(text) => std::fs::write(&wrong, text).expect("it can be written"),
            None => std::fs::remove_file(&wrong).expect("it is there"),
        }
        for command in ["check", "up"] {
            let done = check(command).await;
            assert!(
                done.code == 2 && done.stderr.contains(said),
                "{name} {command}: {} {}",
                done.code,
                done.stderr
            );
        }
        pair.write(path.parent().expect("a folder"));
    }
}

async fn tls_comes_and_goes_while_the_cluster_runs() {
    let free =
        || std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port");
    let (first, second) = (free(), free());
    let authority = Authority::new();
    let setup = Setup::new(Backend::Process).proxy(&format!("listen = [\"{first}\"]"));
    authority.issue().write(setup.file("ca.pem", &authority.pem()).parent().expect("a folder"));
    let mut cluster = setup.model("calc", "calculator", "").start().await;
    let path = cluster.setup_mut().write();
    let plain = std::fs::read_to_string(&path).expect("it is there");
    let files = "cert = \"cert.pem\", key = \"key.pem\"";
    let with = |listen: &str, tls: &str| {
        let tls = format!("listen = [{listen}]\ntls = {{ listen = [{tls}], {files} }}");
        plain.replace(&format!("listen = [\"{first}\"]"), &tls)
    };
    let speaks = async |address: std::net::SocketAddr| {
        let secure = authority.connect(address, &["h2"]).await.is_ok();
        let request = "GET /add/3/4 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n";
        let clear = match tokio::net::TcpStream::connect(address).await {
            Ok(_) => exchange(address, request).await.ends_with("\r\n\r\n7"),
            Err(_) => false,
        };
        (clear, secure)
    };
    let (one, two) = (format!("\"{first}\""), format!("\"{second}\""));
    let rows = [
        (with(&one, &two), (true, false), (false, true)),
        // Both at once, without a moment in which nobody listens.
        (with(&two, &one), (false, true), (true, false)),
        (with("", &format!("{one}, {two}")), (false, true), (false, true)),
        (plain.clone(), (true, false), (false, false)),
    ];
    for (text, at_first, at_second) in rows {
        std::fs::write(&path, &text).expect("it can be written");
        let view = cluster.admin().post("/reload").await;
        assert_eq!(view.status, 200, "{}", view.text());
        let wanted = (at_first, at_second);
        eventually(PATIENCE, "it is so", async || {
            ((speaks(first).await, speaks(second).await) == wanted).then_some(())
        })
        .await;
    }
    std::fs::write(&path, with(&one, &two).replace("cert.pem", "none.pem")).expect("it can be written");
    cluster.expect_error("is refused");
    let view = cluster.admin().post("/reload").await;
    assert_eq!((view.status, view.text().contains("none.pem")), (400, true), "{}", view.text());
    assert_eq!(speaks(first).await, (true, false), "what was in force stays");
    std::fs::write(&path, &plain).expect("it can be written");
    cluster.stop().await;
}

async fn a_process_that_takes_over_refuses_no_handshake(backend: Backend) {
    let mut secure = secure(backend, "", "calculator", "size = 2").await;
    let address = secure.cluster.secure_address();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let authority = std::mem::take(&mut secure.authority);
    let load = tokio::spawn(async move {
        let (mut count, mut wrong) = (0, Vec::new());
        while !*stopped.borrow_and_update() {
            let asked = async {
                let mut stream = authority.connect(address, &["http/1.1"]).await?;
                stream.write_all(b"GET /add/3/4 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n").await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                if answer.ends_with("\r\n\r\n7") { Ok(()) } else { Err(std::io::Error::other(answer)) }
            };
            if let Err(error) = asked.await {
                wrong.push(error.to_string());
            }
            count += 1;
        }
        (count, wrong)
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let old = secure.cluster.take_over().await;
        assert_eq!(secure.cluster.secure_address(), address, "it has the same socket");
        assert!(old.ended(Duration::from_secs(45)).await.success());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(true).expect("it goes on");
    let (count, wrong) = load.await.expect("no panic");
    assert!(wrong.is_empty() && count > 10, "{count} connections: {wrong:?}");
    secure.cluster.stop().await;
}

both!(light 60: curl_speaks_every_version_that_there_is, what_is_carried_without_it_is_carried_over_it);
both!(light 60: an_instance_that_is_killed_costs_no_answer);
each!(light 60: only_what_is_offered_is_agreed_on, a_handshake_that_does_not_end_is_ended);
each!(light 60: an_instance_is_told_how_a_request_came, a_certificate_is_renewed_while_a_stream_is_open);
each!(light 60: mistakes_in_the_files_are_told_before_anything_starts);
each!(light 60: tls_comes_and_goes_while_the_cluster_runs);
both!(light 120: a_process_that_takes_over_refuses_no_handshake);
