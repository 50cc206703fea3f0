//! `GET /events`, listened to.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::{PATIENCE, eventually};

/// What a listener has heard.
#[derive(Debug)]
pub struct News {
    heard: Arc<Mutex<Vec<Value>>>,
    listening: JoinHandle<()>,
}

impl News {
    /// Listens with these parameters (`?tail=9`), or none.
    ///
    /// # Panics
    /// When it is no stream of events.
    pub async fn listen(admin: &Admin, parameters: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(format!("/events{parameters}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let (response, connection) = admin.client().open(request, body).await.expect("it answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        let (noted, mut body) = (heard.clone(), response.into_body());
        let listening = tokio::spawn(async move {
            let mut rest = String::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                rest.push_str(&String::from_utf8_lossy(&data));
                while let Some((piece, more)) = rest.split_once("\n\n") {
                    let (piece, more) = (piece.to_owned(), more.to_owned());
                    noted.lock().extend(understood(&piece));
                    rest = more;
                }
            }
            drop(connection);
        });
        Self { heard, listening }
    }

    /// What was heard so far.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().clone()
    }

    /// Waits for an event of this kind, about this service or instance or text.
    ///
    /// # Panics
    /// When there is none for too long.
    pub async fn hears(&self, kind: &str, about: &str) -> Value {
        eventually(PATIENCE, &format!("{kind} {about} is told; so far: {:#?}", self.heard()), async || {
            let about = |one: &Value| {
                let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                text("service") == about || text("instance") == about || text("text").contains(about)
            };
            self.heard().into_iter().find(|one| one["kind"] == kind && about(one))
        })
        .await
    }

    /// Waits for the end of the stream.
    pub async fn ends(self) -> Vec<Value> {
        tokio::time::timeout(PATIENCE, self.listening).await.expect("it ends").expect("no panic");
        self.heard.lock().clone()
    }
}

/// The data of an event, which must say the same as its name and id.
fn understood(piece: &str) -> Option<Value> {
    let field = |name: &str| piece.lines().find_map(|line| line.strip_prefix(name));
    let data: Value = serde_json::from_str(field("data: ")?).expect("JSON");
    if field("event: ") != Some("lost") {
        assert_eq!(data["kind"].as_str(), field("event: "), "{piece}");
        assert_eq!(data["id"].as_str(), field("id: "), "{piece}");
    }
    Some(data)
}
