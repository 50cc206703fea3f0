//! The file of api keys: a line for each, `name:sha256hex`, with limits of its own behind it if it has any.
//!
//! ```text
//! # who        SHA-256 of the key, in hex     what it may take
//! ann:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! batch:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 rate=10/s concurrent=4
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Rate;
use super::diagnostics::{self, Diagnostic, Diagnostics};

/// The key of cluster.toml that names the file.
const KEY: &str = "proxy.api_keys_file";

/// The SHA-256 of a key.
pub type Digest = [u8; 32];

/// `proxy.api_keys_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    /// The file.
    pub file: PathBuf,
    /// What is in it.
    pub list: Vec<ApiKey>,
}

/// What is known of a key, which is everything but the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Whose it is.
    pub name: String,
    /// What it is recognised by.
    pub digest: Digest,
    /// Requests in a time, if they are limited.
    pub rate: Option<Rate>,
    /// Requests at once, waiting or at work; 0 is no limit.
    pub concurrent: u32,
}

/// Reads a file. Every mistake in it is shown at its place.
pub fn load(path: &Path) -> Result<Vec<ApiKey>, Diagnostics> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        let diagnostic = Diagnostic::whole(format!("cannot read the api keys in {name}: {error}")).about(KEY);
        Diagnostics::new("", "", vec![diagnostic.help("make the file with `longshore key NAME --file FILE`")])
    })?;
    parse(&diagnostics::text(&name, bytes)?, &name)
}

fn parse(text: &str, name: &str) -> Result<Vec<ApiKey>, Diagnostics> {
    let mut reader = KeyReader { text, wrong: Vec::new(), places: BTreeMap::new() };
    let keys: Vec<ApiKey> = reader.lines().into_iter().filter_map(|line| reader.key(line)).collect();
    if keys.is_empty() && reader.wrong.is_empty() {
        let diagnostic = Diagnostic::whole(format!("{name} has no key: nobody could ask for anything"));
        reader.wrong.push(diagnostic.help("make one with `longshore key NAME`").about(KEY));
    }
    if reader.wrong.is_empty() { Ok(keys) } else { Err(Diagnostics::new(name, text, reader.wrong)) }
}

/// Whether a key may have that name. The error says what is allowed.
pub fn check_name(name: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(letter) {
        Ok(())
    } else {
        Err("the name of a key is 1 to 64 letters, digits and `-`, `_`, `.`, `@`".into())
    }
}

struct KeyReader<'t> {
    text: &'t str,
    wrong: Vec<Diagnostic>,
    /// Where each digest stands.
    places: BTreeMap<Digest, Range<usize>>,
}

impl<'t> KeyReader<'t> {
    /// Lines that say something, each as its words with their places.
    fn lines(&self) -> Vec<Vec<(&'t str, Range<usize>)>> {
        let place = |part: &str| part.as_ptr() as usize - self.text.as_ptr() as usize;
        let words = |line: &'t str| {
            let said = line.split_once('#').map_or(line, |(said, _)| said);
            let words = said.split_whitespace();
            words.map(|word| (word, place(word)..place(word) + word.len())).collect::<Vec<_>>()
        };
        self.text.lines().map(words).filter(|words| !words.is_empty()).collect()
    }

    fn key(&mut self, line: Vec<(&str, Range<usize>)>) -> Option<ApiKey> {
        let mut words = line.into_iter();
        let (first, span) = words.next()?;
        let mut key = self.identity(first, &span);
        for (word, span) in words {
            let read = match &mut key {
                Some(key) => limit(key, word),
                // What is wrong with the first word is told; the others are looked at all the same.
                None => limit(&mut nobody(), word),
            };
            if let Err(allowed) = read {
                self.wrong
                    .push(Diagnostic::new(span, format!("{word:?} is no limit of a key")).label(allowed));
            }
        }
        key
    }

    /// `name:sha256hex`.
    fn identity(&mut self, word: &str, span: &Range<usize>) -> Option<ApiKey> {
        let mut reject = |message: &str, label: String| {
            self.wrong.push(Diagnostic::new(span.clone(), message).label(label));
            None
        };
        let Some((name, hex)) = word.split_once(':') else {
            return reject("this is no key", "a key is `name:sha256hex`".into());
        };
        if let Err(allowed) = check_name(name) {
            return reject("a key cannot have that name", allowed);
        }
        let Some(digest) = digest(hex) else {
            let label = "64 hexadecimal digits, as `longshore key NAME` prints them".into();
            return reject("this is no SHA-256 of a key", label);
        };
        if let Some(first) = self.places.insert(digest, span.clone()) {
            let diagnostic = Diagnostic::new(span.clone(), "the same key twice").label("again here");
            self.wrong.push(diagnostic.also(first, "first here"));
        }
        Some(ApiKey { name: name.to_owned(), digest, ..nobody() })
    }
}

fn nobody() -> ApiKey {
    ApiKey { name: String::new(), digest: Digest::default(), rate: None, concurrent: 0 }
}

fn limit(key: &mut ApiKey, word: &str) -> Result<(), String> {
    match word.split_once('=') {
        Some(("rate", rate)) => key.rate = Some(Rate::parse(rate)?),
        Some(("concurrent", count)) => {
            let count = count.parse().ok().filter(|count| *count > 0);
            key.concurrent = count.ok_or("`concurrent` is a number above 0")?;
        }
        Some(_) | None => return Err("a limit is `rate=10/s` or `concurrent=4`".into()),
    }
    Ok(())
}

fn digest(hex: &str) -> Option<Digest> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut digest = Digest::default();
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_line_is_a_key_with_its_limits() {
        let text = format!(
            "# all of them\n\nann:{TEST}\r\n  bob:{} rate=10/s concurrent=4 # new\n",
            "0F".repeat(32)
        );
        let keys = parse(&text, "keys.txt").unwrap();
        assert_eq!((keys[0].name.as_str(), keys[0].digest[0], keys[0].rate), ("ann", 0x9f, None));
        let rate = Rate { count: 10, period: Duration::from_secs(1) };
        assert_eq!(
            (keys[1].name.as_str(), keys[1].digest, keys[1].rate, keys[1].concurrent),
            ("bob", [0x0f; 32], Some(rate), 4)
        );
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn every_bad_line_is_shown_with_its_place() {
        let other = "0".repeat(64);
        for (line, message, beside) in [
            ("secret".to_owned(), "this is no key", "`name:sha256hex`"),
            (format!("a b:{TEST}"), "this is no key", "^"),
            (format!(":{TEST}"), "cannot have that name", "1 to 64 letters"),
            ("bob:abc".to_owned(), "this is no SHA-256", "64 hexadecimal digits"),
            (format!("bob:{}", "g".repeat(64)), "this is no SHA-256", "64 hexadecimal digits"),
            (format!("bob:{TEST}"), "the same key twice", "first here"),
            (format!("bob:{other} rate=fast"), "\"rate=fast\" is no limit", "a rate is"),
            (format!("bob:{other} concurrent=0"), "is no limit", "above 0"),
            (format!("bob:{other} admin"), "\"admin\" is no limit", "`rate=10/s`"),
        ] {
            let shown = parse(&format!("ann:{TEST}\n{line}\n"), "keys.txt").unwrap_err().to_string();
            assert!(shown.contains(message) && shown.contains(beside), "{line}: {shown}");
            assert!(shown.contains("keys.txt:2:"), "{line}: {shown}");
        }
        let both = parse("x\ny rate=1\n", "keys.txt").unwrap_err();
        assert_eq!(both.list().len(), 3);
        assert!(parse("# nobody\n", "keys.txt").unwrap_err().to_string().contains("has no key"));
        assert!(load(Path::new("/no/such")).unwrap_err().to_string().contains("/no/such"));
    }
}
