//! Finds the `model` that a JSON body names, while the body arrives: its beginning is looked at once, byte by byte, and
//! nothing of it is kept here but the name.

/// A longer name belongs to no service.
const LONGEST: usize = 512;

/// As long as the key, each of its letters written as an escape of six.
const LONGEST_KEY: usize = "model".len() * 6;

/// A reader of the object that a body is. The first `model` in it counts; what lies deeper does not.
#[derive(Debug)]
pub struct ModelName {
    state: State,
    /// The text that is being read, as it stands between its quotes.
    text: Vec<u8>,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the object.
    Start,
    /// Before a key.
    Key,
    /// In a key.
    InKey,
    /// Behind a key; `model` says whether it is the one.
    Colon { model: bool },
    /// Before a value.
    Value { model: bool },
    /// In the name.
    InName,
    /// In any other value, so many brackets deep.
    Other { depth: u32 },
    /// In a text there.
    OtherText { depth: u32 },
    /// The name is known.
    Found,
    /// There is none, or what comes is no JSON object.
    Without,
}

impl Default for ModelName {
    fn default() -> Self {
        Self { state: State::Start, text: Vec::new(), escaped: false }
    }
}

impl ModelName {
    /// Takes the next part of the body. Whether enough is known: then nothing more needs to be shown.
    pub fn read(&mut self, part: &[u8]) -> bool {
        let mut rest = part;
        while !self.is_decided() {
            // Long texts are most of a body: they are passed over quickly.
            if let (State::OtherText { .. }, false) = (self.state, self.escaped) {
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                rest = &rest[plain.unwrap_or(rest.len())..];
            }
            let Some((byte, after)) = rest.split_first() else { break };
            self.state = self.next(*byte);
            rest = after;
        }
        self.is_decided()
    }

    /// The name, once it is known.
    pub fn name(self) -> Option<String> {
        if self.state == State::Found { unescaped(&self.text) } else { None }
    }

    fn is_decided(&self) -> bool {
        matches!(self.state, State::Found | State::Without)
    }

    fn next(&mut self, byte: u8) -> State {
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match (self.state, byte) {
            (State::InKey | State::InName | State::OtherText { .. }, _) => self.in_text(byte),
            (State::Start | State::Key | State::Colon { .. } | State::Value { .. }, _) if space => self.state,
            // The mark that some systems begin a text with, in UTF-8.
            (State::Start, 0xef | 0xbb | 0xbf) => State::Start,
            (State::Start, b'{') => State::Key,
            (State::Key, b'"') => State::InKey,
            (State::Key, b',') => State::Key,
            (State::Colon { model }, b':') => State::Value { model },
            (State::Value { model: true }, b'"') => State::InName,
            // A model that is no text is none that a service has.
            (State::Value { model: true }, _) => State::Without,
            (State::Value { model: false }, _) => other(0, byte),
            (State::Other { depth }, _) => other(depth, byte),
            (State::Start | State::Key | State::Colon { .. }, _) => State::Without,
            (State::Found | State::Without, _) => self.state,
        }
    }

    fn in_text(&mut self, byte: u8) -> State {
        if byte == b'"' && !self.escaped {
            return self.text_ended();
        }
        self.escaped = byte == b'\\' && !self.escaped;
        let room = match self.state {
            State::InKey => self.text.len() <= LONGEST_KEY,
            State::InName if self.text.len() >= LONGEST => return State::Without,
            State::InName => true,
            State::Start | State::Key | State::Colon { .. } | State::Value { .. } => false,
            State::Other { .. } | State::OtherText { .. } | State::Found | State::Without => false,
        };
        if room {
            self.text.push(byte);
        }
        self.state
    }

    fn text_ended(&mut self) -> State {
        match self.state {
            State::InKey => {
                let model = self.is_model();
                self.text.clear();
                State::Colon { model }
            }
            State::InName => State::Found,
            State::OtherText { depth } => State::Other { depth },
            State::Start | State::Key | State::Colon { .. } | State::Value { .. } => self.state,
            State::Other { .. } | State::Found | State::Without => self.state,
        }
    }

    fn is_model(&self) -> bool {
        self.text == b"model"
            || (self.text.contains(&b'\\') && unescaped(&self.text).as_deref() == Some("model"))
    }
}

/// What follows a byte of a value that does not matter.
fn other(depth: u32, byte: u8) -> State {
    match byte {
        b'"' => State::OtherText { depth },
        b'{' | b'[' => State::Other { depth: depth.saturating_add(1) },
        b'}' | b']' if depth == 0 => State::Without,
        b'}' | b']' => State::Other { depth: depth - 1 },
        b',' if depth == 0 => State::Key,
        _ => State::Other { depth },
    }
}

fn unescaped(text: &[u8]) -> Option<String> {
    let quoted = [b"\"", text, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &[u8], step: usize) -> Option<String> {
        let mut model = ModelName::default();
        body.chunks(step).any(|part| model.read(part));
        model.name()
    }

    #[test]
    fn the_model_is_the_first_of_that_name_in_the_object_itself() {
        let long = format!("{{\"model\":\"{}\"}}", "x".repeat(600));
        for (body, name) in [
            (r#"{"model":"tiny"}"#, Some("tiny")),
            (r#" { "a" : 1 , "model" : "tiny" , "b" : ["#, Some("tiny")),
            ("\u{feff}{\"model\":\"tiny\"}", Some("tiny")),
            (r#"{"messages":[{"model":"inner"}],"model":"outer"}"#, Some("outer")),
            (r#"{"a":{"model":"inner"}}"#, None),
            (r#"{"a":"\"model\":\"inner\",","model":"outer"}"#, Some("outer")),
            (r#"{"a":"}]\\","b":[[{"c":"\\\""}]],"model":"x"}"#, Some("x")),
            (r#"{"model":"one","model":"two"}"#, Some("one")),
            (r#"{"m\u006fdel":"a\/b\u00e9\ud83d\ude00"}"#, Some("a/bé😀")),
            (r#"{"model":"größe ✓"}"#, Some("größe ✓")),
            (r#"{"a":null,"b":true,"c":-1.5e9,"model":"x"}"#, Some("x")),
            (r#"{"model":""}"#, Some("")),
            (r#"{"models":"x","mode":"y","Model":"z"}"#, None),
            (r#"{"xmodel":"a","model x":"b"}"#, None),
            (r#"{"model":null,"model":"x"}"#, None),
            (r#"{"model":["x"]}"#, None),
            (r#"{"model":"x"#, None),
            (r#"{"model":"\ud800"}"#, None),
            (r#"[{"model":"x"}]"#, None),
            (r#"{} {"model":"x"}"#, None),
            (r#"{"a":1}{"model":"x"}"#, None),
            (r#""model""#, None),
            ("model=x", None),
            ("", None),
            (&long, None),
        ] {
            for step in [1, 2, 3, 7, body.len().max(1)] {
                assert_eq!(found(body.as_bytes(), step).as_deref(), name, "{body} in steps of {step}");
            }
        }
        assert_eq!(found(b"{\"model\":\"\xff\"}", 4), None, "no UTF-8");
    }

    #[test]
    fn nothing_is_looked_at_beyond_the_answer() {
        for (body, decided) in [
            (&br#"{"model":"x""#[..], true),
            (br#"{"model":"x"#, false),
            (b"[", true),
            (br#"{"a":1}"#, true),
            (br#"{"a":{"b":1}"#, false),
        ] {
            assert_eq!(ModelName::default().read(body), decided, "{}", String::from_utf8_lossy(body));
        }
    }

    /// What serde_json makes of the same object: a second opinion about any body.
    #[test]
    fn whatever_the_body_is_the_name_is_the_one_that_a_parser_finds() {
        use serde_json::{Map, Value, json};
        fn value(random: &mut fastrand::Rng, depth: u32) -> Value {
            let texts = ["model", "a\"b", "\\", "{", "]", "é", "\u{1F600}", "", ",\"model\":\"no\""];
            match random.u32(..if depth > 3 { 4 } else { 6 }) {
                0 => json!(random.i32(..)),
                1 => Value::Null,
                2 | 3 => json!(texts[random.usize(..texts.len())]),
                4 => (0..random.usize(..4)).map(|_| value(random, depth + 1)).collect(),
                _ => Value::Object(object(random, depth + 1)),
            }
        }
        fn object(random: &mut fastrand::Rng, depth: u32) -> Map<String, Value> {
            let keys = ["model", "models", "x", "mo\\del", "\"", "messages"];
            (0..random.usize(..5))
                .map(|_| (keys[random.usize(..keys.len())].to_owned(), value(random, depth)))
                .collect()
        }
        let mut named = 0;
        for seed in 0..3_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let object = object(&mut random, 0);
            let body = match random.bool() {
                true => serde_json::to_vec(&object).unwrap(),
                false => serde_json::to_vec_pretty(&object).unwrap(),
            };
            let expected = object.get("model").and_then(Value::as_str);
            named += usize::from(expected.is_some());
            let got = found(&body, random.usize(1..64));
            assert_eq!(got.as_deref(), expected, "seed {seed}: {}", String::from_utf8_lossy(&body));
        }
        assert!(named > 200, "too few bodies name a model: {named}");
    }
}
