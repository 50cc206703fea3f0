//! A problem as a page, for people with a browser. It needs nothing from elsewhere.

use super::Problem;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#777}\
body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:12vh auto;padding:0 1.5em}\
header{display:flex;gap:.8em;align-items:baseline}\
h1{font-size:1.5em;margin:0}\
b{font:600 1em ui-monospace,monospace;padding:.1em .5em;border:1px solid var(--line);border-radius:.4em}\
p,li{overflow-wrap:anywhere;white-space:pre-wrap}\
ul{list-style:none;padding:0;border-top:1px solid var(--line)}\
li{padding:.5em 0;border-bottom:1px solid var(--line);font-family:ui-monospace,monospace}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1em 1em;color:var(--soft);font-size:.85em;margin-top:2.5em}\
dd{margin:0;overflow-wrap:anywhere}";

/// The page of a problem.
pub(super) fn page(
    problem: &Problem,
    title: &str,
    service: Option<&str>,
    request_id: Option<&str>,
) -> String {
    let about = [("service", service), ("request", request_id), ("longshore", Some(problem.kind()))];
    let about: String = about
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("<dt>{name}</dt><dd>{}</dd>", escape(value))))
        .collect();
    let names: String = problem.services().iter().map(|name| format!("<li>{}</li>", escape(name))).collect();
    let list = if names.is_empty() { String::new() } else { format!("<ul>{names}</ul>{HOW}") };
    let status = problem.status().as_u16();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>{status} {title}</title><style>{STYLE}</style>\
         <header><b>{status}</b><h1>{title}</h1></header><p>{detail}</p>{list}<dl>{about}</dl></html>\n",
        detail = escape(problem.detail()),
    )
}

/// Below the names of the services.
const HOW: &str = "<p>A service is reached at http://NAME.localhost with the port of this page, \
                   or with the header <code>Longshore-Service: NAME</code>.</p>";

/// As HTML shows it.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_client_sent_becomes_markup() {
        let evil = "<script>'\"&</script>";
        let problem = Problem::NoService(format!("no service is named {evil}"), vec![evil.into()]);
        let page = page(&problem, "No such service", Some(evil), Some(evil));
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;&#39;&quot;&amp;&lt;/script&gt;").count(), 4, "{page}");
        assert!(page.len() < 4_000, "{} bytes", page.len());
    }

    #[test]
    fn services_are_listed_where_one_was_looked_for() {
        let problem = Problem::NoService("which?".to_owned(), vec!["calc".into(), "echo".into()]);
        assert!(page(&problem, "x", None, None).contains("<ul><li>calc</li><li>echo</li></ul>"));
        assert!(!page(&Problem::Stopped("x".to_owned()), "x", None, None).contains("<ul>"));
    }
}
