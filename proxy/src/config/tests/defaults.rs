//! What is in force when nothing, or everything, is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_backend::{Gpus, Pull, Reach};
use longshore_pool::{BalancePolicy, QueueOrder, RestartPolicy};

use super::super::*;
use super::{parse, service};

/// The complete file of the interface, as it is printed there.
const COMPLETE: &str = include_str!("complete.toml");

#[test]
fn the_complete_file_says_what_the_defaults_are() {
    let written = parse(COMPLETE).unwrap();
    let mut bare = parse(
        "[services.calc]\nimage = \"longshore/calculator\"\nbuild = \"images/calculator\"\npaths = [\"/\"]\n",
    )
    .unwrap();
    // The two ways to say the same health check.
    let body = Some(Pattern::new("\"ready\"").unwrap());
    bare.services[0].health.check = Check::Http { path: "/".into(), status: Some(200), body };
    let commented =
        COMPLETE.replace("# status = 200    body = '\"ready\"'", "status = 200\nbody = '\"ready\"' #");
    assert_eq!(parse(&commented).unwrap(), bare);
    bare.services[0].health.check = Health::default().check;
    assert_eq!(written, bare);
}

#[test]
fn every_key_that_the_complete_file_shows_as_a_comment_can_be_written() {
    let mut written = 0;
    for line in COMPLETE.lines().filter(|line| line.starts_with("# ")) {
        let keys = line[2..].split("   ").map(str::trim).take_while(|part| !part.starts_with('#'));
        for key in keys.filter(|part| !part.is_empty()) {
            written += 1;
            let refused = [
                ("hosts = [\"unix:", "is not available in this version"),
                ("tls = { ca", "is not available in this version"),
                ("addresses", "`image` or `addresses`, not both"),
            ];
            let refused = refused.iter().find(|(begin, _)| key.starts_with(begin)).map(|(_, said)| said);
            match (parse(&COMPLETE.replacen(line, key, 1)).map_err(|wrong| wrong.to_string()), refused) {
                (Ok(_), None) => {}
                (Err(wrong), Some(said)) if wrong.contains(said) => {}
                (read, _) => panic!("{key}: {read:?}"),
            }
        }
    }
    assert!(written > 20, "{written}");
}

#[test]
fn a_listener_and_a_server_may_be_named() {
    let config = parse(
        "proxy.listen = [\"localhost:25000\"]\nadmin.listen = \"localhost:25001\"\n\
         [services.a]\naddresses = [\"localhost:11434\"]",
    )
    .unwrap();
    assert_eq!(config.proxy.listen, ["127.0.0.1:25000".parse().unwrap()]);
    assert_eq!(config.admin.listen, "127.0.0.1:25001".parse().unwrap(), "loopback needs no token");
    let Source::Addresses(servers) = &config.services[0].source else { panic!("addresses") };
    assert_eq!(servers[..], ["127.0.0.1:11434".parse().unwrap()]);
}

#[test]
fn an_instance_that_has_the_ports_of_the_machine_is_the_only_one() {
    for size in
        ["", "size = 1", "size = { policy = \"concurrency\", min = 1, max = 1 }", "size = { size = 0 }"]
    {
        let calc = service(&format!("[services.calc]\nimage = \"x\"\naddress = \"host\"\n{size}"));
        assert_eq!(calc.size.max, 1, "{size}");
    }
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let config = parse("[services.calc]\nimage = \"x\"").unwrap();
    assert_eq!(config.name, "default");
    assert_eq!(config.proxy.listen, ["127.0.0.1:5000".parse().unwrap()]);
    assert_eq!(config.proxy.request_header_timeout, Duration::from_secs(10));
    assert_eq!(config.proxy.max_body, 1024 * 1024 * 1024);
    assert_eq!(config.proxy.memory_per_body, 256 * 1024);
    assert!(!config.proxy.trace, "it shows what a client sends to whoever reads the answer");
    assert!(!config.proxy.half_close, "who has finished sending has left");
    assert_eq!(config.telemetry, Telemetry::default());
    assert_eq!((&config.telemetry.collector, config.telemetry.sample), (&None, 1.0));
    assert_eq!(config.proxy.model_head, 16 * 1024 * 1024);
    assert_eq!(config.proxy.trusted, Network::LOOPBACK, "a proxy on this machine is believed");
    assert_eq!(config.admin.listen, "127.0.0.1:5001".parse().unwrap());
    assert_eq!(config.backend.kind, BackendKind::Auto);
    let calc = config.service("calc").unwrap();
    assert_eq!(calc.hosts, ["calc", "calc.localhost"]);
    assert!(calc.paths.is_empty() && calc.models.is_empty());
    assert!(calc.default, "implied when there is one service");
    assert_eq!(calc.size, ServiceSize { min: 0, max: 1000, ..ServiceSize::fixed(1) });
    assert_eq!(calc.timeout, Duration::from_secs(600));
    assert_eq!(calc.first_byte_timeout, None);
    assert_eq!(calc.queue.max_bytes, 2 * 1024 * 1024 * 1024);
    assert_eq!(calc.replay.busy, [429, 503]);
    assert_eq!(calc.replay.hold, 1024 * 1024);
    assert_eq!((calc.replay.resume, calc.replay.resume_keep), (false, 16 * 1024 * 1024));
    let Source::Image { spec } = &calc.source else { panic!("an image") };
    assert_eq!((spec.port, spec.pull, spec.address), (8080, Pull::Missing, Reach::Published));
}

#[test]
fn jobs_are_kept_beside_the_file_and_their_keys_can_be_set() {
    let jobs = |lines: &str| {
        let config = parse(&format!("{lines}\n[services.calc]\nimage = \"x\"")).unwrap();
        (config.jobs.clone(), config.services[0].jobs)
    };
    let (default, calc) = jobs("");
    let folder = default_folder();
    assert_eq!(default.store, JobStore::File { folder: folder.join("longshore-data"), named: false });
    assert_eq!((&*default.path, default.max_bytes), ("/_jobs", 10 << 30));
    assert_eq!(default.lease, Duration::from_secs(30));
    let hour = Duration::from_secs(3600);
    let credentials = Credentials::Keep;
    assert_eq!(calc, ServiceJobs { mode: JobsMode::Prefer, input_ttl: hour, result_ttl: hour, credentials });
    let drop = parse("services.calc.image = \"x\"\nservices.calc.jobs.credentials = \"drop\"").unwrap();
    assert_eq!(drop.services[0].jobs.credentials, Credentials::Drop);
    let (set, _) =
        jobs("[jobs]\nstore = \"file:x\"\npath = \"/later\"\nmax_bytes = \"1MiB\"\nlease = \"5s\"");
    let store = JobStore::File { folder: folder.join("x"), named: true };
    let lease = Duration::from_secs(5);
    let path = "/later".to_owned();
    assert_eq!(set, JobsConfig { store, path, max_bytes: 1 << 20, lease, ..JobsConfig::default() });
    assert_eq!(jobs("jobs.store = \"memory:\"").0.store, JobStore::Memory);
    let url = "redis://:secret@host:6379/3";
    assert_eq!(jobs(&format!("jobs.store = \"{url}\"")).0.store, JobStore::Redis(url.to_owned()));
    let modes = [("off", JobsMode::Off), ("always", JobsMode::Always), ("poll", JobsMode::Poll)];
    for (word, mode) in modes {
        let text = format!("services.calc.image = \"x\"\nservices.calc.jobs.mode = \"{word}\"");
        assert_eq!(parse(&text).unwrap().services[0].jobs.mode, mode);
    }
}

#[test]
fn results_are_posted_to_nobody_unless_somebody_is_listed() {
    let callbacks = |lines: &str| {
        parse(&format!("[jobs]\n{lines}\n[services.calc]\nimage = \"x\"")).unwrap().jobs.callbacks
    };
    let default = callbacks("");
    assert_eq!(default, Callbacks::default());
    assert!(default.hosts.is_empty() && default.secrets.is_none());
    assert_eq!((default.timeout, default.attempts), (Duration::from_secs(30), 12));
    assert_eq!(
        (default.backoff_initial, default.backoff_max),
        (Duration::from_secs(1), Duration::from_secs(600))
    );
    let list = callbacks("callbacks = [\"hooks.example.com\", \"10.0.0.0/8\"]");
    assert_eq!(list.hosts.len(), 2);
    assert!(list.hosts[0].names("hooks.example.com", 443) && list.hosts[1].names("10.1.2.3", 80));
    let set = callbacks(
        "[jobs.callbacks]\nhosts = [\"a:1\"]\nsecret_file = \"s\"\ntimeout = \"5s\"\nattempts = 3\n\
         backoff = { initial = \"2s\", max = \"4s\" }",
    );
    assert!(set.hosts[0].names("a", 1) && !set.hosts[0].names("a", 2));
    assert_eq!(set.secrets.map(|secrets| secrets.file), Some(default_folder().join("s")));
    assert_eq!((set.timeout, set.attempts), (Duration::from_secs(5), 3));
    assert_eq!((set.backoff_initial, set.backoff_max), (Duration::from_secs(2), Duration::from_secs(4)));
}

#[test]
fn jobs_are_exported_nowhere_unless_a_folder_or_a_command_is_named() {
    let export =
        |lines: &str| parse(&format!("[jobs]\n{lines}\n[services.calc]\nimage = \"x\"")).unwrap().jobs.export;
    assert_eq!(export(""), None);
    let every = Duration::from_secs(3600);
    let folder = default_folder().join("backups");
    let to = ExportTo::Folder { folder: folder.clone(), keep: 24 };
    assert_eq!(export("export = { every = \"1h\", to = \"backups\" }"), Some(ScheduledExport { every, to }));
    let to = ExportTo::Folder { folder, keep: 0 };
    let all = export("export = { every = \"1h\", to = \"backups\", keep = 0 }");
    assert_eq!(all, Some(ScheduledExport { every, to }));
    let to = ExportTo::Command(vec!["put".to_owned(), "-".to_owned()]);
    assert_eq!(
        export("export = { every = \"1h\", to = [\"put\", \"-\"] }"),
        Some(ScheduledExport { every, to })
    );
}

/// Where relative paths begin in these tests.
fn default_folder() -> PathBuf {
    let config = parse("[admin]\ntoken_file = \"t\"\n[services.calc]\nimage = \"x\"").unwrap();
    let file = config.admin.token_file.unwrap();
    file.parent().unwrap_or(Path::new("")).to_owned()
}

#[test]
fn a_listener_may_be_public_by_default_and_every_limit_can_be_set() {
    let limits = |lines: &str| {
        parse(&format!("[proxy]\n{lines}\n[services.calc]\nimage = \"x\"")).unwrap().proxy.limits
    };
    let default = limits("");
    assert_eq!((default.header_bytes, default.header_fields), (64 * 1024, 200));
    assert_eq!((default.min_rate, default.min_rate_grace), (240, Duration::from_secs(30)));
    assert_eq!(
        (default.connections, default.client_connections, default.client_concurrent),
        (20_000, 1_000, 1_000)
    );
    assert_eq!((default.handshakes, default.client_handshakes), (2_000, 100));
    assert_eq!((default.client_rate, default.exempt.len()), (None, 2));
    let set = limits(
        "limits = { header_bytes = \"8KiB\", header_fields = 10, min_rate = \"1KiB\", min_rate_grace = \"1s\", \
         connections = 0, client_connections = 3, handshakes = 0, client_handshakes = 6, client_concurrent = 4, client_rate = \"5/m\", exempt = [\"::/0\"] }",
    );
    let expected = Limits {
        header_bytes: 8 * 1024,
        header_fields: 10,
        min_rate: 1_024,
        min_rate_grace: Duration::from_secs(1),
        connections: 0,
        client_connections: 3,
        handshakes: 0,
        client_handshakes: 6,
        client_concurrent: 4,
        client_rate: Some(Rate { count: 5, period: Duration::from_secs(60) }),
        exempt: vec![Network::parse("::/0").unwrap()],
    };
    assert_eq!(set, expected);
    let keys = parse("proxy = { api_keys_file = \"k.txt\" }\n[services.calc]\nimage = \"x\"").unwrap().proxy;
    assert_eq!(keys.api_keys.map(|keys| keys.file), Some(PathBuf::from("k.txt")));
    assert!(!keys.forward_api_key);
}

#[test]
fn tls_has_listeners_of_its_own() {
    let proxy =
        |lines: &str| parse(&format!("[proxy]\n{lines}\n[services.calc]\nimage = \"x\"")).unwrap().proxy;
    assert_eq!(proxy("").tls, None);
    assert_eq!(proxy("").listeners().len(), 1);
    // As the interface has it.
    let line = COMPLETE.lines().find_map(|line| line.strip_prefix("# tls = { listen")).unwrap();
    let tls = proxy(&format!("tls = {{ listen{line}")).tls.unwrap();
    assert_eq!(tls.listen, ["127.0.0.1:5443".parse().unwrap()]);
    assert_eq!(tls.files, TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() });
    let only = proxy("listen = []\n[proxy.tls]\nlisten = [\"[::1]:0\"]\ncert = \"c\"\nkey = \"k\"");
    let address = "[::1]:0".parse().unwrap();
    assert_eq!(only.listeners(), [Listener { address, scheme: Scheme::Https }], "nothing in the clear");
}

#[test]
fn answers_are_shared_only_where_the_file_says_so() {
    let cache = |lines: &str| service(&format!("[services.calc]\nimage = \"x\"\n{lines}")).cache;
    let default = Cache { ttl: Duration::ZERO, max_bytes: 64 << 20, max_entry: 1 << 20 };
    assert_eq!(cache(""), default);
    let set = Cache { ttl: Duration::from_secs(5), max_bytes: 2_048, max_entry: 1_024 };
    assert_eq!(cache("cache = { ttl = \"5s\", max_bytes = \"2KiB\", max_entry = \"1KiB\" }"), set);
    assert_eq!(cache("cache = { max_bytes = \"2KiB\" }").max_entry, 2_048);
}

#[test]
fn a_pool_gets_what_the_file_says() {
    let calc = service(
        r#"
        [services.calc]
        image = "x"
        size = { policy = "fixed", size = 3, min = 2, max = 5 }
        concurrency = 0
        timeout = "1m"
        stop_grace = "0s"
        health = { interval = "5s", failures = 7, start_timeout = "1h" }
        queue = { limit = 5, timeout = "3s" }
        replay = { attempts = 9, methods = "idempotent", busy = [], resume = true, resume_keep = "1KiB" }
        restart = { backoff = { initial = "1s", max = "2s" } }
        "#,
    );
    let pool = calc.pool_config();
    assert_eq!((calc.size.number(), pool.min, pool.max), (Some(3), 2, 5));
    assert_eq!((pool.concurrency, pool.queue_limit, pool.replay_attempts, pool.probe_failures), (0, 5, 9, 7));
    assert_eq!((pool.drain_timeout, pool.stop_grace), (Duration::from_secs(60), Duration::ZERO));
    assert_eq!(
        (pool.probe_interval, pool.start_timeout),
        (Duration::from_secs(5), Duration::from_secs(3600))
    );
    assert_eq!((pool.backoff_initial, pool.backoff_max), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(calc.replay.methods, ReplayMethods::Idempotent);
    assert_eq!((calc.replay.resume, calc.replay.resume_keep), (true, 1024));
    assert!(pool.managed && calc.replay.busy.is_empty());
}

#[test]
fn a_queue_has_the_order_that_the_file_says() {
    let queue = |lines: &str| service(&format!("[services.calc]\nimage = \"x\"\nqueue = {{ {lines} }}"));
    let order = |lines: &str| queue(lines).pool_config().order;
    let ageing = |seconds| QueueOrder::Priority { ageing: Duration::from_secs(seconds) };
    assert_eq!(order("order = \"random\""), QueueOrder::Random);
    assert_eq!(order("order = \"priority\""), ageing(30));
    assert_eq!(order("order = \"priority\", ageing = \"5s\""), ageing(5));
    let fair = queue("order = \"fair\", fair_key = \"header:X-User\"");
    assert_eq!(fair.pool_config().order, QueueOrder::Fair);
    assert_eq!(fair.queue.fair_key, RequestKey::Header("x-user".parse().unwrap()));
    assert_eq!(queue("order = \"fair\", fair_key = \"api-key\"").queue.fair_key, RequestKey::ApiKey);
}

#[test]
fn a_balancer_is_the_one_that_the_file_says() {
    let calc = |lines: &str| service(&format!("[services.calc]\nimage = \"x\"\nbalance = {{ {lines} }}"));
    for (word, policy) in [
        ("least-busy", BalancePolicy::LeastBusy),
        ("round-robin", BalancePolicy::RoundRobin),
        ("random", BalancePolicy::Random),
        ("peak-ewma", BalancePolicy::PeakEwma),
    ] {
        let pool = calc(&format!("policy = {word:?}, slow_start = \"90s\"")).pool_config();
        assert_eq!((pool.balance, pool.slow_start), (policy, Duration::from_secs(90)));
    }
    for (word, key) in [
        ("ip", RequestKey::Ip),
        ("path", RequestKey::Path),
        ("header:X-Session", RequestKey::Header("x-session".parse().unwrap())),
        ("cookie:Session", RequestKey::Cookie("Session".into())),
    ] {
        let calc = calc(&format!("policy = \"hash\", hash_key = {word:?}"));
        assert_eq!((calc.pool_config().balance, calc.balance.hash_key), (BalancePolicy::Hash, Some(key)));
    }
}

#[test]
fn what_becomes_of_an_instance_that_ended_is_what_the_file_says() {
    for (word, policy) in [
        ("always", RestartPolicy::Always),
        ("on-failure", RestartPolicy::OnFailure),
        ("never", RestartPolicy::Never),
        ("stop-service", RestartPolicy::StopService),
    ] {
        let calc = service(&format!("[services.calc]\nimage = \"x\"\nrestart = {{ policy = {word:?} }}"));
        assert_eq!(calc.pool_config().restart, policy);
    }
}

#[test]
fn servers_that_already_run_are_as_many_as_are_listed() {
    let calc =
        service("[services.calc]\naddresses = [\"127.0.0.1:1\", \"[::1]:2\"]\nhealth = { tcp = true }");
    assert_eq!(calc.size, ServiceSize { max: 2, ..ServiceSize::fixed(2) });
    assert_eq!(calc.health.check, Check::Tcp);
    assert!(!calc.pool_config().managed);
}

#[test]
fn an_instance_is_made_as_the_file_says() {
    let text = r#"
        [services.calc]
        image = "${IMAGE}"
        build = "images/calc"
        command = ["sh", "-c", "exec serve --port $PORT"]
        port = 0x50
        env = { A = "${NO:-fallback}", B = 1, C = true, D = "$${IMAGE}" }
        volumes = ["~/models:/models:ro", "./data:/data", "cache:/cache", "/abs:/abs:rw"]
        memory = "512MiB"
        cpus = 1.5
        gpus = "1 each"
        user = 1000
        network = "net"
        platform = "linux/arm64"
        pull = "never"
        address = "container"
    "#;
    let config = Config::parse(text, "/srv/models/cluster.toml", &|name| match name {
        "HOME" => Some("/home/ada".into()),
        "IMAGE" => Some("example/model:2".into()),
        _ => None,
    });
    let Source::Image { spec } = config.unwrap().services.remove(0).source else { panic!("an image") };
    assert_eq!(spec.image, "example/model:2");
    assert_eq!(spec.build, Some(PathBuf::from("/srv/models/images/calc")));
    assert_eq!(spec.command.unwrap()[2], "exec serve --port $PORT");
    assert_eq!(spec.port, 80);
    let env: Vec<_> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=fallback", "B=1", "C=true", "D=${IMAGE}"]);
    assert_eq!(
        spec.volumes,
        ["/home/ada/models:/models:ro", "/srv/models/data:/data", "cache:/cache", "/abs:/abs:rw"]
    );
    assert_eq!((spec.memory, spec.cpus, spec.gpus), (Some(512 << 20), Some(1.5), Some(Gpus::Count(1))));
    assert_eq!((spec.user.as_deref(), spec.network.as_deref()), (Some("1000"), Some("net")));
    assert_eq!((spec.pull, spec.address), (Pull::Never, Reach::Container));
}

#[test]
fn services_keep_the_order_of_the_file() {
    let config = parse("[services.b]\nimage=\"b\"\n[services.a]\nimage=\"a\"").unwrap();
    let names: Vec<&str> = config.services.iter().map(|service| &*service.name).collect();
    assert_eq!(names, ["b", "a"]);
    assert!(config.services.iter().all(|service| !service.default), "implied for a single one only");
}

#[test]
fn a_single_image_needs_no_file() {
    let config = Config::single("longshore/calculator:1", Some(9000), Some(2), None).unwrap();
    let calc = config.service("calculator").unwrap();
    assert!(calc.default);
    assert_eq!(calc.size.number(), Some(2));
    let Source::Image { spec } = &calc.source else { panic!("an image") };
    assert_eq!((spec.image.as_str(), spec.port, &spec.build), ("longshore/calculator:1", 9000, &None));
    let wrong = Config::single("a b", Some(0), Some(5000), None).unwrap_err();
    assert_eq!(wrong.list().len(), 3);
}

#[test]
fn the_clusters_of_this_repository_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("cluster.toml")];
    for example in std::fs::read_dir(root.join("examples")).unwrap() {
        files.push(example.unwrap().path().join("cluster.toml"));
    }
    for file in files.iter().filter(|file| file.exists()) {
        if let Err(mistakes) = Config::load(file) {
            panic!("{mistakes}");
        }
    }
    assert!(files[0].exists(), "the default cluster is there");
}
