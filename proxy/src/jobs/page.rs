//! A job as a page, for people with a browser. It needs nothing from elsewhere, no script either: while the job is not done
//! it is loaded again every few seconds.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use longshore_jobs::{Answer, Job, Reader, Store, StoreError};

use super::JobView;
use crate::gateway::body::ResponseBody;
use crate::problem::escape;

/// Bytes of a text that are shown on the page.
const SHOWN: u64 = 16 * 1024;

/// Seconds after which the page of a job that is not done is loaded again.
const REFRESH: u32 = 2;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#777;--tone:#777}\
body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:8vh auto;padding:0 1.5em}\
header{display:flex;gap:.8em;align-items:center;flex-wrap:wrap}\
h1{font-size:1.5em;margin:0;overflow-wrap:anywhere}\
b{font:600 1em ui-monospace,monospace;padding:.15em .6em;border-radius:.4em;color:#fff;background:var(--tone)}\
.queued{--tone:#8a6d00}.running{--tone:#1266c4}.done{--tone:#1a7f37}.failed{--tone:#c4232b}\
.bar{height:4px;margin:1.2em 0;border-radius:2px;overflow:hidden;background:var(--line)}\
.bar i{display:block;height:100%;width:30%;border-radius:2px;background:var(--tone);animation:slide 1.6s ease-in-out infinite alternate}\
.queued .bar i{width:8%}\
@keyframes slide{from{margin-left:0}to{margin-left:70%}}\
@media(prefers-reduced-motion:reduce){.bar i{animation:none}}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3em 1.2em;margin:1.5em 0}\
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
pre{padding:1em;border:1px solid var(--line);border-radius:.4em;overflow:auto;max-height:28em;white-space:pre-wrap;\
overflow-wrap:anywhere;font:14px/1.45 ui-monospace,monospace}\
img{max-width:100%;border:1px solid var(--line);border-radius:.4em}\
nav{display:flex;gap:1em;align-items:center;flex-wrap:wrap}form{margin:0}\
button,nav a{font:inherit;padding:.35em .9em;border:1px solid var(--line);border-radius:.4em;background:none;color:inherit;\
text-decoration:none;cursor:pointer}\
footer{margin-top:2.5em;color:var(--soft);font:13px ui-monospace,monospace;overflow-wrap:anywhere}";

/// What of a result is shown on the page itself.
pub(super) enum Preview {
    /// Nothing: there is none, or it is nothing to look at.
    None,
    /// A picture.
    Image,
    /// Text, and whether that is not all of it.
    Text(String, bool),
}

impl Preview {
    pub(super) async fn of(store: &Arc<dyn Store>, job: &Job) -> Result<Self, StoreError> {
        let Some(Answer { headers, body: Some(body), .. }) = job.answer() else { return Ok(Self::None) };
        let field = |wanted: &str| {
            let field = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            field.map(|(_, value)| String::from_utf8_lossy(&value).to_ascii_lowercase())
        };
        let kind = field("content-type").unwrap_or_default();
        if kind.starts_with("image/") {
            return Ok(Self::Image);
        }
        let is_text = kind.starts_with("text/") || kind.contains("json") || kind.contains("xml");
        if !is_text || field("content-encoding").is_some() {
            return Ok(Self::None);
        }
        let mut reader = Reader::range(store.clone(), *body, 0, SHOWN.min(body.length));
        let mut text = Vec::new();
        while let Some(piece) = reader.next().await? {
            text.extend_from_slice(&piece);
        }
        let text = match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(value) if kind.contains("json") => format!("{value:#}"),
            Ok(_) | Err(_) => String::from_utf8_lossy(&text).into_owned(),
        };
        Ok(Self::Text(text, body.length > SHOWN))
    }

    fn html(&self, view: &JobView) -> String {
        match self {
            Self::None => String::new(),
            Self::Image => format!("<p><img src='{}' alt='the result'></p>", escape(&view.result)),
            Self::Text(text, more) => {
                let more = if *more { "<p>The beginning of it; the link has all.</p>" } else { "" };
                format!("<pre>{}</pre>{more}", escape(text))
            }
        }
    }
}

/// The page of a job, which is found at `location`.
pub(super) fn response(
    status: StatusCode,
    view: &JobView,
    location: &str,
    preview: &Preview,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::from(page(view, location, preview))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        ),
    );
    response
}

fn page(view: &JobView, location: &str, preview: &Preview) -> String {
    let pending = view.status == "queued" || view.status == "running";
    let location = escape(location);
    let refresh = match pending {
        true => format!("<meta http-equiv=refresh content='{REFRESH};url={location}'>"),
        false => String::new(),
    };
    let bar = if pending { "<div class=bar><i></i></div>" } else { "" };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width,initial-scale=1'>{refresh}\
         <title>{status} – {service}</title><style>{STYLE}</style>\
         <body class={status}><header><b>{status}</b><h1>{request}</h1></header>{bar}\
         <dl>{facts}</dl>{preview}<nav>{links}</nav><footer>job {id}</footer></body></html>\n",
        status = escape(&view.status),
        service = escape(&view.service),
        request = escape(&view.request),
        facts = facts(view),
        preview = preview.html(view),
        links = links(view, &location, pending),
        id = escape(&view.id),
    )
}

fn facts(view: &JobView) -> String {
    let callback = view.callback.as_ref().map(|callback| {
        let error = callback.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        format!("{} to {}{error}", callback.status, callback.url)
    });
    let facts = [
        ("service", Some(view.service.clone())),
        ("jobs before it", view.position.map(|position| position.to_string())),
        ("starts in about", view.estimate_seconds.map(|seconds| format!("{seconds} s"))),
        ("submitted", Some(view.submitted_at.clone())),
        ("started", view.started_at.clone()),
        ("ended", view.finished_at.clone()),
        ("attempts", Some(view.attempts).filter(|attempts| *attempts > 1).map(|count| count.to_string())),
        ("answered with", view.response_status.map(|status| status.to_string())),
        ("callback", callback),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).fold(
        String::new(),
        |mut out, (name, value)| {
            // A text takes everything.
            let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
            out
        },
    )
}

fn links(view: &JobView, location: &str, pending: bool) -> String {
    let button = |what: &str, says: &str| {
        format!("<form method=post action='{location}/{what}'><button>{says}</button></form>")
    };
    let result = if view.done {
        format!("<a href='{}'>Open the result</a>", escape(&view.result))
    } else {
        String::new()
    };
    let change = match view.status.as_str() {
        "failed" => button("retry", "Try again"),
        _ if pending => button("cancel", "Cancel"),
        _ => String::new(),
    };
    format!("{result}{change}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(status: &str) -> JobView {
        JobView {
            id: "01a1".to_owned(),
            service: "calc".to_owned(),
            status: status.to_owned(),
            done: status == "done" || status == "failed",
            position: (status == "queued").then_some(3),
            load: 4,
            attempts: 1,
            request: "GET /<script>alert(1)</script>".to_owned(),
            submitted_at: "2026-01-02T03:04:05.678Z".to_owned(),
            started_at: None,
            finished_at: None,
            estimate_seconds: None,
            response_status: None,
            result: "/_jobs/01a1/result".to_owned(),
            callback: None,
        }
    }

    #[test]
    fn what_a_client_wrote_is_text_and_nothing_else() {
        let text = Preview::Text("<img src=x onerror=alert(1)>".to_owned(), false);
        let page = page(&view("done"), "/_jobs/01a1", &text);
        assert!(!page.contains("<script") && !page.contains("<img src=x"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("&lt;img src=x"), "{page}");
    }

    #[test]
    fn each_state_offers_what_can_be_done_with_it() {
        for (status, there, missing) in [
            (
                "queued",
                &["http-equiv=refresh", "/cancel'", "jobs before it</dt><dd>3"][..],
                &["/retry'", "Open the"][..],
            ),
            ("running", &["http-equiv=refresh", "/cancel'"], &["/retry'", "Open the"]),
            ("done", &["Open the result"], &["http-equiv=refresh", "/cancel'", "/retry'"]),
            ("failed", &["Open the result", "/retry'"], &["http-equiv=refresh", "/cancel'"]),
            ("cancelled", &[], &["http-equiv=refresh", "/cancel'", "/retry'", "Open the"]),
        ] {
            let page = page(&view(status), "/_jobs/01a1", &Preview::None);
            assert!(there.iter().all(|text| page.contains(text)), "{status}: {page}");
            assert!(!missing.iter().any(|text| page.contains(text)), "{status}: {page}");
        }
    }
}
