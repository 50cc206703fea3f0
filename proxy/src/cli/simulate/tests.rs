//! The command's claims.

use clap::Parser;
use serde_json::Value as Json;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: SimulateArgs,
}

fn args(line: &[&str]) -> SimulateArgs {
    let line = Line::try_parse_from([&["simulate"], line].concat());
    line.unwrap_or_else(|error| panic!("{error}")).args
}

fn contest(line: &[&str]) -> Contest {
    Contest::new(&args(line)).unwrap_or_else(|error| panic!("{error}"))
}

const SMALL: [&str; 4] = ["--rate", "2", "--duration", "10m"];

#[test]
fn the_table_has_a_row_for_each_policy_and_what_none_can_beat() {
    let line = [&SMALL[..], &["--policy", "wait", "--policy", "3", "--policy", "hpa"]].concat();
    let contest = contest(&line);
    let results = contest.run();
    let text = table::text(&contest, &results);
    let rows: Vec<&str> =
        text.lines().skip(3).map(|line| line.split("  ").next().unwrap_or_default()).collect();
    assert_eq!(rows, ["wait", "3", "hpa", "bound (knows the future)", "greedy (knows the future)"], "{text}");
    assert!(text.starts_with("steady 2/s, seed 1: "), "{text}");
    let json = table::json(&contest, &results);
    assert_eq!(json["policies"].as_array().map(Vec::len), Some(3));
    let cost = |row: usize| json["policies"][row]["instance_seconds"].as_f64().unwrap();
    assert!(json["bound_instance_seconds"].as_f64().unwrap() < cost(0));
    assert_eq!(json["objective"], "p95 wait < 1s");
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let run = || {
        let contest = contest(&SMALL);
        table::json(&contest, &contest.run()).to_string()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_service_takes_part_with_its_own_size_and_queue() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    let text = "[services.calc]\nimage = \"x\"\nsize = 2\nconcurrency = 4\nqueue = { limit = 1 }\n";
    std::fs::write(&file, text).unwrap();
    let trace = folder.path().join("trace.csv");
    std::fs::write(&trace, "arrival_s,service_s\n0,30\n0,30\n0,30\n").unwrap();
    let (file, trace) = (file.display().to_string(), trace.display().to_string());
    let contest = contest(&["-c", &file, "--service", "calc", "--trace", &trace]);
    let names: Vec<&str> = contest.contestants.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["2", "queue", "concurrency", "wait"]);
    let results = contest.run();
    // All three arrive before an instance is ready, and one may wait.
    assert_eq!(results[0].report.rejected, 2);
    assert_eq!(contest.bounds().1, None, "four at once");
    // One request of 30 s, on one of two instances with four slots each, that lived 35 s.
    assert!((contest.used(&results[0].report) - 30.0 / 70.0 / 4.0).abs() < 1e-3);
    let missing = Contest::new(&args(&["-c", &file, "--service", "clac", "--trace", &trace]));
    assert!(missing.err().unwrap().to_string().contains("has no service \"clac\"; it has calc"));
}

#[test]
fn a_policy_that_is_named_has_the_bounds_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    let text = "[services.calc]\nimage = \"x\"\nsize = { policy = \"wait\", min = 2, max = 3 }\n";
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let named = |size: &str| {
        let line = ["-c", &file, "--service", "calc", "--rate", "1", "--policy", size];
        let contest = contest(&line);
        let size = contest.contestants[0].kind.size().unwrap();
        (size.min, size.max)
    };
    assert_eq!(named("concurrency"), (2, 3));
    assert_eq!(named("queue"), (2, 3));
    assert_eq!(named("if queue > 7 { 9 } else { 1 }"), (2, 3));
    assert_eq!(named("{\"policy\": \"concurrency\", \"max\": 8}"), (2, 8));
    assert_eq!(named("7"), (0, 1_000), "a number is what it says");
}

#[test]
fn what_is_tuned_stays_within_the_bounds_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    std::fs::write(&file, "[services.calc]\nimage = \"x\"\nsize = { policy = \"wait\", min = 1, max = 3 }\n")
        .unwrap();
    let file = file.display().to_string();
    let line = ["-c", &file, "--service", "calc", "--rate", "3", "--duration", "2m", "--tune"];
    for more in [&[][..], &["--policy", "queue"]] {
        let contest = contest(&[&line[..], more].concat());
        let tuned = tune::tune(&contest);
        assert!(
            tuned.iter().all(|it| (it.size.min, it.size.max) == (1, 3) && it.report.most <= 3),
            "{more:?}"
        );
        let text = tune::text(&contest, &tuned);
        let number = tuned[0].size.number().is_some();
        assert!(number || text.contains("max = 3"), "the line to paste keeps them: {text}");
    }
}

#[test]
fn what_cannot_be_simulated_is_told() {
    let refused = |line: &[&str]| Contest::new(&args(line)).err().map(|error| error.to_string());
    let line = |policy| [&SMALL[..], &["--policy", policy]].concat();
    let webhook = "{\"policy\": \"webhook\", \"url\": \"http://127.0.0.1:1\"}";
    assert!(refused(&line(webhook)).unwrap().contains("cannot be simulated"));
    assert!(refused(&line("magic")).unwrap().starts_with("--policy magic: this is no expression"));
    assert!(refused(&["--trace", "/nowhere.csv"]).unwrap().starts_with("/nowhere.csv: No such file"));
    assert!(refused(&["--rate", "1e6", "--duration", "1d"]).unwrap().contains("100 million"));
    for wrong in
        [&["--rate", "0"][..], &[], &["--rate", "1", "--shape", "x"], &["--rate", "1", "--pareto", "1"]]
    {
        assert!(Line::try_parse_from([&["simulate"], wrong].concat()).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_objective_is_written_in_several_ways() {
    let shown = |text| Objective::parse(text).map(|it| it.to_string());
    assert_eq!(shown("p95 wait < 2s").as_deref(), Ok("p95 wait < 2s"));
    assert_eq!(shown("p99.9<=250ms").as_deref(), Ok("p99.9 wait < 250ms"));
    assert_eq!(shown("1m 30s").as_deref(), Ok("p95 wait < 1m 30s"));
    for wrong in ["", "0s", "p0 < 1s", "p100 < 1s", "q95 < 1s", "p95 < x", "p95 wait"] {
        assert!(shown(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn tuning_finds_what_meets_the_objective_and_costs_less_than_it_began_with() {
    let line = ["--rate", "4", "--duration", "8m", "--objective", "p95 wait < 3s"];
    let contest = contest(&line);
    let tuned = tune::tune(&contest);
    let names: Vec<&str> = tuned.iter().map(|it| it.size.policy.name()).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[0], "wait", "{names:?}");
    let best = &tuned[0];
    assert_eq!(best.missed_by, 0.0);
    let usual = contest
        .run_one(&contest::Kind::Size(crate::config::typed_size("wait", &contest.service.size).unwrap()));
    assert!(best.report.instance_seconds < usual.instance_seconds);
    let text = tune::text(&contest, &tuned);
    let pasted = text.lines().last().unwrap();
    assert_eq!(pasted, best.size.line());
    let json: Json = tune::json(&contest, &tuned);
    assert_eq!(json[0]["met"], true);
}

#[test]
fn the_smallest_number_that_meets_the_objective_is_found() {
    let line = ["--rate", "4", "--duration", "8m", "--cold-start", "0s", "--policy", "1"];
    let contest = contest(&line);
    let found = &tune::tune(&contest)[0];
    let number = found.size.number().unwrap();
    let misses = |number| {
        let report = contest.run_one(&contest::Kind::Size(crate::config::ServiceSize::fixed(number)));
        contest.objective.missed_by(&report)
    };
    assert!(misses(number) == 0.0 && misses(number - 1) > 0.0, "{number}");
}

#[test]
fn the_plot_has_a_line_for_each_policy_in_each_panel() {
    let line =
        [&SMALL[..], &["--policy", "wait", "--policy", "if queue < 3 { 1 } else { 2 }", "--plot", "x.svg"]];
    let results = contest(&line.concat()).run();
    let svg = plot::svg(&results);
    assert_eq!(svg.matches("stroke-width").count(), 6);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("if queue &lt; 3 { 1 } else { 2 }"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}
