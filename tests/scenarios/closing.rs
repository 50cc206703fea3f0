//! Answers that end with their connection, as servers of HTTP/1.0 give them: the end of the server is not one.

use bytes::Bytes;
use http::Request;
use longshore_tests::{Backend, Cluster, Setup, each};

/// HTTP/1.0 as Python's own server speaks it. Of `/die/NAME`, the first who is asked dies in the middle.
const SERVER: &str = r#"
import http.server, os, pathlib, signal, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        for part in range(3):
            if self.path.startswith("/die") and part == 1:
                mark = pathlib.Path(__file__).parent / self.path[1:].replace("/", "-")
                if self.path == "/die" or not mark.exists():
                    mark.touch()
                    time.sleep(0.2)
                    os.kill(os.getpid(), signal.SIGKILL)
            self.wfile.write(b"part %d\n" % part)
            self.wfile.flush()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const WHOLE: &str = "part 0\npart 1\npart 2\n";

async fn cluster(keys: &str) -> Cluster {
    let setup = Setup::new(Backend::Process);
    let server = setup.file("server.py", SERVER);
    let service = format!(
        "[services.old]\nimage = \"old\"\ncommand = [\"python3\", {server:?}]\nhealth.tcp = true\nsize = 2\n\
         restart.backoff = {{ initial = \"100ms\", max = \"200ms\" }}\n{keys}\n"
    );
    setup.service(&service).start().await
}

async fn an_answer_that_ends_with_its_connection_is_whole_unless_its_instance_has_died() {
    let cluster = cluster("").await;
    for _ in 0..5 {
        let reply = cluster.client().get("/whole").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, WHOLE));
    }
    cluster.admin().lost_nothing("old").await;
    for lost in 1..=3 {
        let cut = cluster.client().try_send(Request::get("/die"), Bytes::new()).await;
        let why = cut.expect_err("a part of an answer is not the whole");
        assert!(why.contains("broken off"), "{why}");
        let labels = [("service", "old")];
        cluster.admin().counts("longshore_requests_lost_total", &labels, f64::from(lost)).await;
        assert_eq!(cluster.client().get("/whole").await.text(), WHOLE, "others are answered");
        cluster.settled().await;
    }
    cluster.admin().works_on("old", 0).await;
    cluster.stop().await;
}

async fn one_that_may_go_on_elsewhere_does() {
    let cluster = cluster("replay.resume = true").await;
    for name in ["a", "b", "c"] {
        let reply = cluster.client().get(&format!("/die/{name}")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, WHOLE));
        cluster.settled().await;
    }
    let deaths =
        cluster.admin().metrics().await.sum("longshore_instance_deaths_total", &[("service", "old")]);
    assert!((deaths - 3.0).abs() < 0.5, "{deaths}");
    cluster.admin().lost_nothing("old").await;
    cluster.stop().await;
}

each!(light 90: an_answer_that_ends_with_its_connection_is_whole_unless_its_instance_has_died);
each!(light 90: one_that_may_go_on_elsewhere_does);
