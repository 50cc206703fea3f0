//! What is different, and what is done about it.

use super::*;

const BASE: &str =
    "[services.calc]\nimage = \"x\"\nsize = 2\n[services.far]\naddresses = [\"127.0.0.1:9\"]\n";

fn parse(text: &str) -> Config {
    Config::parse(text, "cluster.toml", &|_| None).unwrap()
}

fn to(text: &str) -> Difference {
    Difference::between(&parse(BASE), &parse(text)).unwrap()
}

#[test]
fn the_same_is_no_difference() {
    assert!(!to(BASE).view().changed);
    assert_eq!(to(&format!("# a remark\n{BASE}")).summary(), "nothing has changed");
}

#[test]
fn what_instances_are_made_from_rolls_and_the_rest_does_not() {
    for (line, rolls) in [
        ("env = { A = \"1\" }", true),
        ("command = [\"x\"]", true),
        ("volumes = [\"a:/a\"]", true),
        ("port = 81", true),
        ("pull = \"never\"", false),
        ("timeout = \"3s\"", false),
        ("queue.limit = 3", false),
        ("balance.policy = \"random\"", false),
        ("replay.attempts = 2", false),
        ("restart.policy = \"never\"", false),
        ("health.interval = \"1s\"", false),
        ("stop_grace = \"1s\"", false),
        ("concurrency = 3", false),
        ("hosts = [\"else\"]", false),
        ("paths = [\"/x\"]", false),
        ("first_byte_timeout = \"1s\"", false),
        ("models = [\"m\"]", false),
        ("jobs.mode = \"off\"", false),
        ("cache.ttl = \"1s\"", false),
    ] {
        let found = to(&BASE.replace("size = 2", &format!("size = 2\n{line}")));
        let key = line.split([' ', '.']).next().unwrap();
        let expected = Changed { name: "calc".into(), keys: vec![key], rolls };
        assert_eq!(found, Difference { changed: vec![expected], ..Difference::default() }, "{line}");
    }
}

#[test]
fn services_come_and_go_and_one_of_another_kind_is_another_one() {
    let found = to("[services.calc]\naddresses = [\"127.0.0.1:1\"]\n[services.new]\nimage = \"y\"\n");
    assert_eq!(
        (found.added, found.removed),
        (vec!["calc".to_owned(), "new".to_owned()], vec!["calc".to_owned(), "far".to_owned()])
    );
}

#[test]
fn listeners_are_compared_as_they_are_written() {
    let with = |listen: &str| parse(&format!("[proxy]\nlisten = [{listen}]\n{BASE}"));
    let old = with("\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:7\"");
    let new = with("\"127.0.0.1:8\", \"127.0.0.1:0\"");
    let found = Difference::between(&old, &new).unwrap();
    let all = |list: &[Listener]| list.iter().map(|one| one.address.port()).collect::<Vec<_>>();
    assert_eq!((all(&found.opened), all(&found.closed)), (vec![8], vec![0, 7]));
    assert_eq!(found.summary(), "changed [proxy] listen");
}

#[test]
fn a_listener_that_speaks_something_else_is_neither_closed_nor_opened() {
    let with = |listen: &str, tls: &str| {
        let tls = format!("tls = {{ listen = [{tls}], cert = \"c\", key = \"k\" }}");
        parse(&format!("[proxy]\nlisten = [{listen}]\n{tls}\n{BASE}"))
    };
    let old = with("\"127.0.0.1:7\", \"127.0.0.1:0\"", "\"127.0.0.1:8\"");
    let new = with("\"127.0.0.1:8\"", "\"127.0.0.1:7\", \"127.0.0.1:0\"");
    let found = Difference::between(&old, &new).unwrap();
    let all = |list: &[Listener]| {
        list.iter().map(|one| (one.address.port(), one.scheme.name())).collect::<Vec<_>>()
    };
    assert_eq!(all(&found.switched), [(8, "http"), (7, "https")]);
    assert_eq!((all(&found.opened), all(&found.closed)), (vec![(0, "https")], vec![(0, "http")]));
    assert_eq!(found.summary(), "changed [proxy] listen, tls");
    assert!(found.moves_listeners());
    assert!(!Difference::between(&new, &new).unwrap().moves_listeners());
}

#[test]
fn what_cannot_change_is_said() {
    for (text, key, said) in [
        (format!("name = \"other\"\n{BASE}"), "name", "`name`"),
        (format!("[backend]\nkind = \"process\"\n{BASE}"), "backend.kind", "`[backend]`"),
    ] {
        let Fixed(fixed) = Difference::between(&parse(BASE), &parse(&text)).unwrap_err();
        assert!(fixed.len() == 1 && fixed[0].0 == key && fixed[0].1.contains(said), "{fixed:?}");
    }
    let listed = "[services.far]\naddresses = [\"127.0.0.1:9\"]\n";
    let Fixed(fixed) = Difference::between(&parse(listed), &parse(BASE)).unwrap_err();
    assert!(fixed[0].1.contains("no engine was looked for"), "{fixed:?}");
}

#[test]
fn a_summary_names_everything() {
    let text = BASE.replace("size = 2", "size = 3\nenv = { A = \"1\" }").replace("far", "near");
    let text = format!("[proxy]\ndrain = \"1s\"\n[admin]\ntoken_file = \"t\"\n{text}");
    assert_eq!(
        to(&text).summary(),
        "added near; removed far; changed calc (env, size; its instances are replaced one by one); \
         changed [proxy] drain; changed [admin] token_file"
    );
}

#[test]
fn what_is_read_at_the_start_waits_for_the_next_and_is_named_until_then() {
    let text = format!("[telemetry]\nsample = 0.5\n[jobs]\nstore = \"memory:\"\n{BASE}");
    let found = to(&text);
    assert_eq!(found.next_start, ["[jobs] store", "[telemetry] sample"]);
    assert!(!found.view().changed, "nothing is put in force");
    let said = "nothing has changed; [jobs] store, [telemetry] sample at the next start of `longshore up`";
    assert_eq!(found.summary(), said);
    // What is in force afterwards is what was before: the next reload says it again.
    let (old, mut new) = (parse(BASE), parse(&text.replace("size = 2", "size = 3")));
    assert!(Difference::between(&old, &new).unwrap().view().changed);
    Difference::retain(&mut new, &old);
    assert_eq!(Difference::between(&new, &parse(&text)).unwrap().next_start.len(), 2);
}
