//! Wrong files and what is said about them.

use std::path::Path;

use super::super::Config;
use super::parse;

/// What is shown for a file that is wrong.
fn shown(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

/// The same for lines of a service.
fn in_service(lines: &str) -> String {
    shown(&format!("[services.calc]\nimage = \"x\"\n{lines}\n"))
}

#[test]
fn a_mistake_is_shown_with_file_line_and_caret() {
    let shown = shown("[services.calc]\nimage = \"x\"\nconcurency = 2\n");
    let expected = "\
error: unknown key `concurency` in [services.calc]
 --> cluster.toml:3:1
  |
3 | concurency = 2
  | ^^^^^^^^^^ did you mean `concurrency`?";
    assert_eq!(shown, expected);
}

#[test]
fn both_places_of_a_clash_are_shown() {
    let shown = shown("[services.calc]\nimage = \"x\"\n[services.echo]\nimage = \"y\"\nhosts = [\"CALC\"]\n");
    let expected = "\
error: services `calc` and `echo` both have the host \"calc\"
 --> cluster.toml:5:10
  |
1 | [services.calc]
  |           ---- first here
...
5 | hosts = [\"CALC\"]
  |          ^^^^^^ again here";
    assert_eq!(shown, expected);
}

#[test]
fn all_mistakes_are_found_at_once_in_the_order_of_the_file() {
    let text =
        "name = \"A\"\n[proxy]\ndrain = 3\n[services.calc]\nsize = -1\n[services.b]\nimage = 3\n[extra]\n";
    let mistakes = parse(text).unwrap_err();
    let lines: Vec<usize> = mistakes
        .list()
        .iter()
        .map(|one| text[..one.span.clone().unwrap().start].matches('\n').count() + 1)
        .collect();
    assert_eq!(lines, [1, 3, 4, 5, 7, 8]);
}

#[test]
fn every_wrong_line_of_a_service_has_its_message() {
    let cases = [
        ("port = 0", "`services.calc.port` must be an integer from 1 to 65535", "got 0"),
        ("port = \"80\"", "`services.calc.port` must be an integer", "found a string"),
        ("size = -1", "must be an integer from 0 to 1000", "got -1"),
        ("size = 1001", "must be an integer from 0 to 1000", "got 1001"),
        ("size = 99999999999999999999", "must be an integer from 0 to 1000", "got 99999999999999999999"),
        ("size = 2.5", "must be an integer", "found a float"),
        ("size = { policy = \"fixed\", min = 3, max = 2 }", "`max` is 2 and below `min`, which is 3", "^"),
        ("size = { size = 9, max = 2 }", "`size` is 9 and not within `min` and `max`", "^"),
        ("replay = { resume = true, methods = \"none\" }", "`resume` sends a request again", "forbids that"),
        ("replay = { resume = 1 }", "`services.calc.replay.resume` must be", "found an integer"),
        ("replay = { resume_keep = \"big\" }", "`services.calc.replay.resume_keep`", "big"),
        ("size = { polcy = \"fixed\" }", "unknown key `polcy`", "did you mean `policy`?"),
        (
            "size = \"if queu > 7 { 2 } else { 1 }\"",
            "`services.calc.size`: this is no expression",
            "there are queue",
        ),
        ("size = { policy = \"wayt\", objectiv = 1 }", "cannot be \"wayt\"", "did you mean \"wait\"?"),
        ("size = { policy = \"wait\", objective = \"0s\" }", "`objective` must be 1ms or more", "^"),
        ("size = { policy = \"wait\", late = 2 }", "size.late` must be from 0.0001 to 0.5", "^"),
        ("size = { policy = \"wait\", target = 2 }", "unknown key `target`", "^"),
        ("size = { policy = \"expression\" }", "the policy `expression` needs `expression`", "^"),
        ("size = { policy = \"webhook\", url = \"ftp://a\" }", "a webhook is reached by http://", "^"),
        ("size = { policy = \"schedule\", lines = { \"0 8\" = 1 } }", "\"0 8\" is no cron line", "^"),
        ("size = { policy = \"schedule\", lines = { \"0 8 * * *\" = -1 } }", "must be an integer", "got -1"),
        ("size = { policy = \"schedule\" }", "the policy `schedule` needs `lines`", "^"),
        ("size = { policy = \"queue\", interval = \"1ms\" }", "`interval` must be 10ms or more", "^"),
        ("size = { policy = \"wait\", standby = -2 }", "size.standby` must be an integer", "got -2"),
        ("timeout = \"30\"", "`services.calc.timeout` cannot be \"30\"", "a duration is `250ms`"),
        ("timeout = 30", "must be a duration such as \"30s\"", "found an integer"),
        ("timeout = \"0s\"", "`services.calc.timeout` must be above 0", "^"),
        ("memory = \"512 apples\"", "`services.calc.memory` cannot be \"512 apples\"", "a size is `64KiB`"),
        ("memory = 1", "must be 6MiB or more", "^"),
        ("cpus = 0", "`services.calc.cpus` must be above 0", "^"),
        ("cpus = -1.5", "`services.calc.cpus` must be above 0", "^"),
        ("cpus = nan", "`services.calc.cpus` must be above 0", "^"),
        ("gpus = \"many\"", "`services.calc.gpus` cannot be \"many\"", "gpus are \"1 each\""),
        ("volumes = [\"a\"]", "\"a\" is not a volume", "a volume is `host:container`"),
        ("volumes = [\"a:/b:rx\"]", "\"a:/b:rx\" is not a volume", "^"),
        ("volumes = [\"/a:b\"]", "\"/a:b\" is not a volume", "the path in the container begins with `/`"),
        ("volumes = \"/a:/b\"", "must be an array of strings", "found a string"),
        ("env = { A = [] }", "`services.calc.env.A` must be a string or a number", "found an array"),
        ("env = { PORT = \"1\" }", "PORT is always the port", "^"),
        ("env = { A = \"x${NO}\" }", "the environment has no variable `NO`", "write `${NO:-default}`"),
        ("user = \"${\"", "a variable is written `${VAR}`", "write `$$`"),
        ("command = []", "`services.calc.command` is empty", "^"),
        ("command = \"serve\"", "must be an array such as [\"server\", \"--flag\"]", "found a string"),
        ("pull = \"mising\"", "`services.calc.pull` cannot be \"mising\"", "did you mean \"missing\"?"),
        ("size = 2\naddress = \"host\"", "would want the port of the first", "port 8080 of this machine"),
        ("size = { policy = \"wait\" }\naddress = \"host\"", "would want the port", "or `max = 1`"),
        (
            "size = { policy = \"wait\", max = 1, standby = 1 }\naddress = \"host\"",
            "would want the port",
            "^",
        ),
        ("address = \"here\"", "it is one of published, container, host", "^"),
        (
            "hosts = [\"calc:80\"]",
            "`services.calc.hosts[0]` cannot be \"calc:80\"",
            "without scheme, port or path",
        ),
        ("hosts = [\"a\", \"a\"]", "service `calc` has the host \"a\" twice", "again here"),
        ("paths = [\"x\"]", "`services.calc.paths[0]` cannot be \"x\"", "begins with `/`"),
        ("paths = [\"/x\", \"/x/\"]", "service `calc` has the path \"/x\" twice", "again here"),
        ("models = [\"\"]", "`services.calc.models[0]` cannot be \"\"", "a model is named by 1 to 512"),
        ("models = [\"m\", \"m\"]", "service `calc` has the model \"m\" twice", "again here"),
        ("models = \"m\"", "must be an array of strings", "found a string"),
        ("default = 1", "`services.calc.default` must be true or false", "found an integer"),
        ("addresses = [\"127.0.0.1:1\"]", "`image` or `addresses`, not both", "its image"),
        ("health = { body = \"(\" }", "`services.calc.health.body` cannot be \"(\"", "unclosed group"),
        ("health = { status = 99 }", "must be an integer from 100 to 599", "got 99"),
        ("health = { tcp = true, path = \"/\" }", "one health check, not `path` and `tcp`", "the first"),
        ("health = { log = \"up\", status = 200 }", "`status` is of an http check", "^"),
        ("health = { path = \"x\" }", "`services.calc.health.path` cannot be \"x\"", "begins with `/`"),
        ("queue = { limt = 1 }", "unknown key `limt` in [services.calc.queue]", "did you mean `limit`?"),
        ("queue = { order = \"lifo\" }", "it is one of fifo, random, fair, priority", "^"),
        ("queue = { order = \"fiar\" }", "did you mean \"fair\"?", "^"),
        (
            "queue = { order = \"fair\", fair_key = \"header:\" }",
            "`services.calc.queue.fair_key` cannot be \"header:\"",
            "by ip, header:NAME or api-key",
        ),
        ("queue = { order = \"fair\", fair_key = \"cookie:a\" }", "cannot be \"cookie:a\"", "header:NAME"),
        ("queue = { fair_key = \"api-key\" }", "says nothing unless `order = \"fair\"`", "^"),
        ("queue = { order = \"fair\", ageing = \"1s\" }", "unless `order = \"priority\"`", "^"),
        ("queue = { order = \"priority\", ageing = \"0s\" }", "queue.ageing` must be above 0", "^"),
        (
            "balance = { policy = \"hash\" }",
            "needs a `hash_key` beside it",
            "ip, path, header:NAME or cookie:NAME",
        ),
        ("balance = { policy = \"rnd\" }", "it is one of least-busy, round-robin, random, peak-ewma", "^"),
        (
            "balance = { policy = \"hash\", hash_key = \"user\" }",
            "hash_key` cannot be \"user\"",
            "cookie:NAME",
        ),
        (
            "balance = { policy = \"hash\", hash_key = \"cookie:a b\" }",
            "cannot be \"cookie:a b\"",
            "cookie:NAME",
        ),
        ("balance = { hash_key = \"user\" }", "hash_key` cannot be \"user\"", "cookie:NAME"),
        ("balance = { slow_start = 5 }", "`services.calc.balance.slow_start` must be a duration", "^"),
        ("replay = { busy = [200] }", "must be an integer from 400 to 599", "got 200"),
        ("replay = { attempts = 0 }", "must be an integer from 1 to 1000", "got 0"),
        ("restart = { policy = \"nevr\" }", "did you mean \"never\"?", "^"),
        ("restart = { backoff = { initial = \"1m\", max = \"1s\" } }", "is below `initial`", "^"),
        ("cache = { ttl = 5 }", "`services.calc.cache.ttl` must be a duration", "found an integer"),
        ("cache = { max_bytes = \"1KiB\", max_entry = \"2KiB\" }", "is more than `max_bytes`", "^"),
        ("cache = { tll = \"5s\" }", "unknown key `tll`", "did you mean `ttl`?"),
        ("strip = true", "unknown key `strip` in [services.calc]", "the keys here are address"),
        ("user = \"a\\u0000\"", "holds a NUL character", "^"),
    ];
    for (lines, message, beside) in cases {
        let shown = in_service(lines);
        assert!(shown.contains(message) && shown.contains(beside), "{lines}:\n{shown}");
        assert!(shown.contains("cluster.toml:3:"), "{lines}:\n{shown}");
        assert_eq!(shown.matches("error:").count(), 1, "{lines}:\n{shown}");
    }
}

#[test]
fn every_wrong_document_has_its_message() {
    let service = "[services.a]\nimage = \"x\"\n";
    let cases = [
        ("", "the file describes no service", "add one"),
        ("[services]", "the file describes no service", "add one"),
        ("services = 3", "`services` must be a table", "found an integer"),
        ("services.a = 3", "`services.a` must be a table", "found an integer"),
        ("[services.a]", "neither `image` nor `addresses`", "cluster.toml:1:11"),
        (
            "[services.A_b]\nimage = \"x\"\nhosts = []",
            "\"A_b\" cannot be the name of a service",
            "a name is 1 to 40",
        ),
        ("[services.a]\nimage = \"\"", "`services.a.image` cannot be \"\"", "an image is a reference"),
        ("[services.a]\naddresses = []", "`services.a.addresses` is empty", "^"),
        ("[services.a]\naddresses = [\"localhost\"]", "cannot be \"localhost\"", "an address is IP:PORT"),
        (
            "[services.a]\naddresses = [\"x.invalid:1\"]",
            "cannot be \"x.invalid:1\"",
            "x.invalid has no address",
        ),
        (&format!("admin.listen = \"x.invalid:1\"\n{service}"), "`admin.listen` cannot be", "has no address"),
        ("[services.a]\naddresses = [\"127.0.0.1:0\"]", "port 0 is no server's", "^"),
        ("[services.a]\naddresses = [\"1.2.3.4:5\", \"1.2.3.4:5\"]", "1.2.3.4:5 is listed twice", "^"),
        (
            "[services.a]\naddresses = [\"1.2.3.4:5\"]\nsize = 2",
            "`services.a.size` is 2, of 1 addresses",
            "^",
        ),
        (
            "[services.a]\naddresses = [\"1.2.3.4:5\"]\nsize = { policy = \"fixed\", standby = 1 }",
            "there is no `standby` of them",
            "^",
        ),
        ("[services.a]\naddresses = [\"1.2.3.4:5\"]\nport = 2", "`port` is for what Longshore starts", "^"),
        (
            "[services.a]\naddresses = [\"1.2.3.4:5\"]\nhealth = { log = \"x\" }",
            "servers that already run have no log",
            "^",
        ),
        (
            "[services.a]\naddresses = [\"1.2.3.4:5\"]\nrestart = { policy = \"never\" }",
            "servers that already run are not Longshore's to start",
            "cluster.toml:3:",
        ),
        (
            "[services.a]\nimage = \"x\"\ndefault = true\n[services.b]\nimage = \"x\"\ndefault = true",
            "services `a` and `b` are both the default",
            "first here",
        ),
        (
            "[services.a]\nimage = \"x\"\npaths = [\"/p\"]\n[services.b]\nimage = \"x\"\npaths = [\"/p/\"]",
            "services `a` and `b` both have the path \"/p\"",
            "first here",
        ),
        (
            "[services.a]\nimage = \"x\"\nmodels = [\"m\"]\n[services.b]\nimage = \"x\"\nmodels = [\"n\", \"m\"]",
            "services `a` and `b` both have the model \"m\"",
            "first here",
        ),
        (
            &format!("telemetry.otlp = \"ftp://a\"\n{service}"),
            "`telemetry.otlp` cannot be \"ftp://a\"",
            "a collector is reached by http://",
        ),
        (&format!("telemetry.sample = 1.5\n{service}"), "`telemetry.sample` must be from 0 to 1", "^"),
        (&format!("telemetry.service_name = \"\"\n{service}"), "`telemetry.service_name` is empty", "^"),
        (&format!("proxy.model_head = 5.0\n{service}"), "`proxy.model_head` must be a size", "found a float"),
        (&format!("proxy.trace = \"yes\"\n{service}"), "`proxy.trace` must be", "found a string"),
        (&format!("proxy.half_close = 1\n{service}"), "`proxy.half_close` must be", "found an integer"),
        (&format!("name = \"Ä\"\n{service}"), "`name` cannot be \"Ä\"", "a name is 1 to 40"),
        (&format!("proxy.listen = []\n{service}"), "`proxy.listen` is empty", "^"),
        (&format!("proxy.listen = \"x\"\n{service}"), "must be an array of addresses", "found a string"),
        (
            &format!("proxy.listen = [\":5000\"]\n{service}"),
            "`proxy.listen[0]` cannot be \":5000\"",
            "IP:PORT",
        ),
        (
            &format!("proxy.listen = [\"127.0.0.1:5001\"]\n{service}"),
            "is the proxy's address too",
            "admin.listen",
        ),
        (
            &format!("proxy.trusted = \"10.0.0.0/8\"\n{service}"),
            "must be an array of networks",
            "found a string",
        ),
        (
            &format!("proxy.trusted = [\"10.0.0.1/8\"]\n{service}"),
            "`proxy.trusted[0]` cannot be \"10.0.0.1/8\"",
            "write 10.0.0.0/8",
        ),
        (
            &format!("proxy.limits.header_bytes = \"1KiB\"\n{service}"),
            "`proxy.limits.header_bytes` must be from 8KiB to 1MiB",
            "^",
        ),
        (
            &format!("proxy.limits.header_fields = 0\n{service}"),
            "must be an integer from 10 to 10000",
            "got 0",
        ),
        (&format!("proxy.limits.connections = -1\n{service}"), "an integer from 0 to 10000000", "got -1"),
        (&format!("proxy.limits.min_rate = \"fast\"\n{service}"), "cannot be \"fast\"", "a size is `64KiB`"),
        (&format!("proxy.limits.min_rate_grace = \"0s\"\n{service}"), "grace` must be above 0", "^"),
        (
            &format!("proxy.limits.client_rate = \"10\"\n{service}"),
            "client_rate` cannot be \"10\"",
            "`600/m`",
        ),
        (&format!("proxy.limits.client_rate = 10\n{service}"), "must be a string", "found an integer"),
        (
            &format!("proxy.limits.exempt = [\"lan\"]\n{service}"),
            "`proxy.limits.exempt[0]` cannot be \"lan\"",
            "a network is",
        ),
        (
            &format!("proxy.limits.rate = 1\n{service}"),
            "unknown key `rate` in [proxy.limits]",
            "the keys here",
        ),
        (
            &format!("proxy.tls = {{ listen = [\"[::]:1\"], cert = \"c\" }}\n{service}"),
            "`proxy.tls` has no `key`",
            "key = \"key.pem\"",
        ),
        (
            &format!("proxy.tls = {{ listen = [], cert = \"c\", key = \"k\" }}\n{service}"),
            "`proxy.tls.listen` is empty",
            "^^",
        ),
        (
            &format!("proxy.tls = {{ listen = [\"[::]:1\"], cert = \"c\", key = 3 }}\n{service}"),
            "`proxy.tls.key` must be a string",
            "found an integer",
        ),
        (
            &format!(
                "proxy.tls = {{ listen = [\"[::]:1\"], cert = \"c\", key = \"k\", ca = \"x\" }}\n{service}"
            ),
            "unknown key `ca` in [proxy.tls]",
            "cert, key, listen",
        ),
        (
            &format!("proxy.tls = {{ listen = [\"127.0.0.1:5000\"], cert = \"c\", key = \"k\" }}\n{service}"),
            "127.0.0.1:5000 cannot be in `proxy.listen` and in `proxy.tls.listen`",
            "^^^",
        ),
        (
            &format!("proxy.tls = {{ listen = [\"127.0.0.1:5001\"], cert = \"c\", key = \"k\" }}\n{service}"),
            "127.0.0.1:5001 is the proxy's address too",
            "`admin.listen`",
        ),
        (&format!("admin.listen = \"0.0.0.0:1\"\n{service}"), "`admin.token_file` is required", "^"),
        (&format!("[prox]\n{service}"), "unknown key `prox`", "did you mean `proxy`?"),
        (
            &format!("jobs.store = \"sqlite:x\"\n{service}"),
            "`jobs.store` cannot be \"sqlite:x\"",
            "\"file:FOLDER\", \"memory:\" or \"redis://",
        ),
        (&format!("jobs.store = \"redis://\"\n{service}"), "`jobs.store` cannot be", "Missing hostname"),
        (&format!("jobs.store = \"redis://h/x\"\n{service}"), "`jobs.store` cannot be", "database number"),
        (&format!("jobs.store = \"rediss://h\"\n{service}"), "`jobs.store` cannot be", "through a tunnel"),
        (&format!("jobs.path = \"/\"\n{service}"), "`jobs.path` cannot be \"/\"", "hide every service"),
        (&format!("jobs.lease = \"0s\"\n{service}"), "`jobs.lease` must be above 0", "^"),
        (&format!("jobs.max_bytes = \"lots\"\n{service}"), "`jobs.max_bytes` cannot be \"lots\"", "^"),
        (
            &format!("jobs.callbacks = [\"http://a/b\"]\n{service}"),
            "`jobs.callbacks[0]` cannot be \"http://a/b\"",
            "no scheme and no path",
        ),
        (&format!("jobs.callbacks = \"a\"\n{service}"), "must be an array of hosts", "found a string"),
        (
            &format!("jobs.callbacks = {{ host = [] }}\n{service}"),
            "unknown key `host`",
            "did you mean `hosts`?",
        ),
        (
            &format!("jobs.callbacks = {{ attempts = 0 }}\n{service}"),
            "must be an integer from 1 to 1000",
            "got 0",
        ),
        (
            &format!("jobs.callbacks.backoff = {{ initial = \"2s\", max = \"1s\" }}\n{service}"),
            "`jobs.callbacks.backoff.max` is below `initial`",
            "^",
        ),
        (
            &format!("jobs.export = {{ to = \"x\" }}\n{service}"),
            "`jobs.export` needs `every`",
            "to = \"backups\"",
        ),
        (&format!("jobs.export = {{ every = \"1h\" }}\n{service}"), "`jobs.export` needs `to`", "^"),
        (
            &format!("jobs.export = {{ every = \"1ms\", to = \"x\" }}\n{service}"),
            "`jobs.export.every` must be 1s or more",
            "^",
        ),
        (
            &format!("jobs.export = {{ every = \"1h\", to = [] }}\n{service}"),
            "`jobs.export.to` is empty",
            "^",
        ),
        (
            &format!("jobs.export = {{ every = \"1h\", to = [\"x\"], keep = 3 }}\n{service}"),
            "`jobs.export.keep` is of exports to a folder",
            "^",
        ),
        (&format!("{service}\njobs.credentials = \"hide\""), "it is one of keep, drop", "^"),
        (&format!("{service}\njobs.mode = \"later\""), "it is one of off, prefer, always, poll", "^"),
        (&format!("{service}\njobs.result_ttl = \"1\""), "result_ttl` cannot be \"1\"", "^"),
        (&format!("backend.kind = \"podman\"\n{service}"), "it is one of auto, docker, process, swarm", "^"),
        ("a = [1, \n[services.a]\nb = 'x", "cluster.toml:", "^"),
        ("[services.a]\nimage = \"x\"\nimage = \"y\"", "duplicate key", "cluster.toml:3:1"),
        ("x", "cluster.toml:1:", "^"),
        ("ä = \"", "cluster.toml:1:", "^"),
    ];
    for (text, message, beside) in cases {
        let shown = shown(text);
        assert!(shown.contains(message) && shown.contains(beside), "{text}:\n{shown}");
    }
}

#[test]
fn an_address_that_is_none_is_one_mistake() {
    for address in ["foo", ":25000", "x.invalid:25000"] {
        let shown = shown(&format!("proxy.listen = [\"{address}\"]\n[services.a]\nimage = \"x\"\n"));
        assert_eq!(shown.matches("error:").count(), 1, "{shown}");
        assert!(shown.contains("`proxy.listen[0]` cannot be"), "{shown}");
    }
}

#[test]
fn what_this_version_cannot_do_is_refused_and_not_ignored() {
    let document = [
        ("[backend]\nkind = \"swarm\"", "`backend.kind = \"swarm\"`"),
        ("[backend]\nhosts = []", "`backend.hosts`"),
    ];
    for (lines, what) in document {
        let shown = shown(&format!("{lines}\n[services.calc]\nimage = \"x\"\n"));
        assert!(shown.contains(&format!("{what} is not available in this version")), "{shown}");
        assert_eq!(shown.matches("error:").count(), 1, "{shown}");
    }
    let service = [("health = { docker = true }", "health.docker = true`")];
    for (lines, what) in service {
        let shown = in_service(lines);
        assert!(shown.contains(&format!("`services.calc.{what}")), "{shown}");
        assert!(shown.contains("is not available in this version"), "{shown}");
        assert_eq!(shown.matches("error:").count(), 1, "{shown}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let shown = Config::load(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(shown.contains("none.toml: No such file") && shown.contains("-c FILE"), "{shown}");
    assert!(Config::load(Path::new("/")).is_err());
}

#[test]
fn a_byte_that_is_no_text_is_shown_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    std::fs::write(&file, b"name = \"ok\"\n[services.calc]\nimage = \"\xc3\xa4\xff\"\n").unwrap();
    let shown = Config::load(&file).unwrap_err().to_string();
    for said in ["the file is not UTF-8", "cluster.toml:3:11", "byte 39 of the file is 0xff", "^"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
}

#[test]
fn a_file_that_is_named_and_no_good_is_told_of_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), " \n").unwrap();
    std::fs::write(folder.path().join("bytes"), [0xff]).unwrap();
    let file = folder.path().join("cluster.toml");
    let tls = |cert: &str, key: &str| {
        format!("[proxy.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"{cert}\"\nkey = \"{key}\"")
    };
    for (lines, said, places) in [
        (tls("none", "none"), "cannot read the certificate", &["cluster.toml:3:8", "cluster.toml:4:7"][..]),
        (tls("empty", "empty"), "has no private key", &["cluster.toml:3:8", "cluster.toml:4:7"]),
        ("[proxy]\napi_keys_file = \"none\"".into(), "cannot read the api keys", &["cluster.toml:2:17"]),
        ("[proxy]\napi_keys_file = \"empty\"".into(), "has no key", &["cluster.toml:2:17"]),
        ("[proxy]\napi_keys_file = \"bytes\"".into(), "is not UTF-8", &["bytes:1:1"]),
        ("admin.token_file = \"none\"\n".into(), "cannot read the token", &["cluster.toml:1:20"]),
        ("admin.token_file = \"empty\"\n".into(), "has no token", &["cluster.toml:1:20"]),
        ("jobs.callbacks.secret_file = \"none\"".into(), "cannot read the secrets", &["cluster.toml:1:30"]),
        ("jobs.callbacks.secret_file = \"empty\"".into(), "has no secret", &["cluster.toml:1:30"]),
        ("telemetry.ca = \"none\"".into(), "none", &["cluster.toml:1:16"]),
    ] {
        std::fs::write(&file, format!("{lines}\n[services.calc]\nimage = \"x\"\n")).unwrap();
        let shown = Config::load(&file).unwrap_err().to_string();
        assert!(shown.contains(said) && shown.contains('^'), "{said}: {shown}");
        assert_eq!(shown.matches("error:").count(), places.len(), "{shown}");
        for place in places {
            assert!(shown.contains(place), "{place}: {shown}");
        }
    }
}

#[test]
fn colours_are_a_choice() {
    let mistakes = parse("x = 1").unwrap_err();
    assert!(mistakes.render(true).contains('\u{1b}'));
    assert!(!mistakes.render(false).contains('\u{1b}'));
}

#[test]
fn no_text_makes_it_panic() {
    let complete =
        include_str!("complete.toml").to_owned() + "volumes = [\"ä:/ö\"]\r\nx = \"\"\"\n🦀\n\"\"\"\r\n";
    let mut chance = fastrand::Rng::with_seed(7);
    let pieces =
        ["\"", "[", "]", "=", "\n", "\r\n", "{", "}", "🦀", "\t", "#", "${", "'''", "-1", "\u{0}", "."];
    for _ in 0..1_500 {
        let mut text: Vec<char> = complete.chars().collect();
        for _ in 0..chance.usize(1..6) {
            let at = chance.usize(..text.len());
            let piece = pieces[chance.usize(..pieces.len())];
            text.splice(at..(at + chance.usize(..30)).min(text.len()), piece.chars());
        }
        if let Err(mistakes) = parse(&text.into_iter().collect::<String>()) {
            assert!(mistakes.render(true).contains("error"));
        }
    }
}
